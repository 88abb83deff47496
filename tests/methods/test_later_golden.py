"""The methods that came after CRD against their public implementations.

See :mod:`later_golden` for the files and the agreement, and the adapters beside it.
"""

from __future__ import annotations

import later_adapting  # noqa: F401
import later_logits  # noqa: F401
import later_maps  # noqa: F401
import pytest
from later_golden import ADAPTERS, cases, check


@pytest.mark.parametrize("case", cases(ADAPTERS))
def test_loss_and_gradients(case: str) -> None:
    check(case)
