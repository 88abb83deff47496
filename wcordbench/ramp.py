"""How a term's weight changes over the epochs; known to suites and methods, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["factor"]


def factor(schedule: Mapping[str, Any] | None, epoch: int, epochs: int) -> float:
    """What a weight is multiplied by in an epoch.

    Args:
        schedule: None for 1 throughout; ``{"warmup": {"epochs": n}}`` for a linear rise,
            min(e / n, 1); ``{"cosine": {"after": a}}`` for ½ (1 + cos(π (e − a) / (E − a)))
            where e > a, and 1 before; ``{"steps": {"until": [a, b], "factors": [x, y, z]}}``
            for x where e < a, y where e < b, else z.
        epoch: e, counted from 1.
        epochs: E, of the whole training.
    """
    if not schedule:
        return 1.0
    ((kind, given),) = schedule.items()
    if kind == "warmup":
        return min(epoch / float(given["epochs"]), 1.0)
    if kind == "cosine":
        after = given["after"]
        if epoch <= after:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (epoch - after) / (epochs - after)))
    begun = sum(epoch >= until for until in given["until"])
    return float(given["factors"][begun])
