"""What cross entropy compares with: a class, or a distribution over classes."""

from __future__ import annotations

from torch.nn import functional as F

from wcordbench.methods.base import Batch


def smoothed(batch: Batch, num_classes: int, share: float) -> Batch:
    """A batch whose labels are spread: (1 − share) · label + share / K.

    Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016), section 7.

    Args:
        batch: with or without soft labels.
        num_classes: K.
        share: from 0, which changes nothing, to below 1.
    """
    if not share:
        return batch
    soft = batch.soft
    if soft is None:
        soft = F.one_hot(batch.labels, num_classes).float()
    return batch._replace(soft=soft * (1 - share) + share / num_classes)


__all__ = ["smoothed"]
