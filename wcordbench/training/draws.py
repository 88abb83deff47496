"""torch's global generators, which networks draw from: seeded for a purpose and restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

CPU = torch.device("cpu")


@contextlib.contextmanager
def seeded(seed: int, device: torch.device = CPU) -> Iterator[None]:
    """Within it the global generators are seeded; after it, they are as they were before.

    Args:
        seed: of the CPU's generator, and of the device's where it has one.
        device: whose generator is seeded as well. Networks are built on the CPU, so that
            building them needs none.
    """
    own = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=own):
        torch.default_generator.manual_seed(seed)
        for each in own:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


__all__ = ["seeded"]
