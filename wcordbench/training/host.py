"""Where training waits for its device: what the host reads of it passes through here."""

from __future__ import annotations

import torch
from torch import Tensor


def read(*values: Tensor) -> list[float]:
    """Scalars of one device as Python numbers; integers are exact up to 2⁵³."""
    numbers: list[float] = torch.stack([value.double() for value in values]).tolist()
    return numbers


def fetch(values: Tensor) -> Tensor:
    """A tensor in the host's memory."""
    return values.cpu()


__all__ = ["fetch", "read"]
