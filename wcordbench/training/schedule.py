"""The learning rate as a function of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from typing import Any


def learning_rate(protocol: dict[str, Any], step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step of the ordinary protocol.

    Args:
        protocol: the ``train`` part of a run's configuration.
        step: counted from 0 over all epochs.
        steps_per_epoch: batches in an epoch.

    Returns:
        For ``step``, the base rate times the factor for each milestone epoch begun; for
        ``one_cycle``, a linear rise to the base rate over the warm-up, then linear to 0; for
        ``cosine``, half a cosine from the base rate to the final one. Where there are
        ``warmup_epochs``, the rate rises linearly over them to what the schedule has at their
        end; the schedule's own time counts from the first step.
    """
    warm: int = round(protocol.get("warmup_epochs", 0) * steps_per_epoch)
    if step < warm:
        return _scheduled(protocol, warm, steps_per_epoch) * (step + 1) / (warm + 1)
    return _scheduled(protocol, step, steps_per_epoch)


def _scheduled(protocol: dict[str, Any], step: int, steps_per_epoch: int) -> float:
    base: float = protocol["learning_rate"]
    schedule = protocol["schedule"]
    if schedule["type"] == "step":
        epoch = step // steps_per_epoch
        passed = sum(epoch >= milestone for milestone in schedule["milestones"])
        return float(base * schedule["factor"] ** passed)
    total = protocol["epochs"] * steps_per_epoch
    if schedule["type"] == "cosine":
        final: float = schedule["final_rate"]
        return final + (base - final) * (1 + math.cos(math.pi * step / total)) / 2
    # step + 1: neither the first nor the last step is wasted on a rate of zero
    progress = (step + 1) / (total + 1)
    warmup: float = schedule["warmup"]
    if progress < warmup:
        return float(base * progress / warmup)
    return float(base * (1 - progress) / (1 - warmup))
