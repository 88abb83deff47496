"""Which devices there are, and what a user may call them."""

from __future__ import annotations

import re

from wcordbench.errors import UserError


def available(wanted: str | None) -> list[str]:
    """The devices to use.

    Args:
        wanted: ``cpu``, ``cuda`` or ``cuda:0``; None for every CUDA device, or else the CPU.

    Raises:
        UserError: it is none of these, or not there.
    """
    if wanted is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise UserError(f"--device {wanted!r} is not known; give cpu, cuda or cuda:0")
    if wanted == "cpu":
        return ["cpu"]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted is None:
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]
    if int(wanted.partition(":")[2] or 0) >= count:
        raise UserError(
            f"--device {wanted} is not there ({count} CUDA devices); leave it out to take what"
            " there is"
        )
    return [wanted]


__all__ = ["available"]
