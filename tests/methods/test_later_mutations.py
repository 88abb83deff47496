"""Every golden file notices the mistakes that its formula invites."""

from __future__ import annotations

import later_adapting  # noqa: F401
import later_logits  # noqa: F401
import later_maps  # noqa: F401
import pytest
from later_golden import ADAPTERS, cases, check
from later_mutations import MUTATIONS, Mutation, in_place

PAIRS = [(m, case) for m in MUTATIONS for case in m.cases.split()]


@pytest.mark.parametrize(
    ("mutation", "case"), PAIRS, ids=[f"{c}: {m.what}".replace(" ", "-") for m, c in PAIRS]
)
def test_a_mistake_is_caught(mutation: Mutation, case: str) -> None:
    check(case)
    with in_place(mutation), pytest.raises(AssertionError):
        check(case)
    check(case)


def test_every_file_is_tried() -> None:
    tried = {case.removesuffix("_x") for m in MUTATIONS for case in m.cases.split()}
    assert tried == set(ADAPTERS)
    assert {case.removesuffix("_x") for case in cases(ADAPTERS)} == set(ADAPTERS)
