"""What methods on the logits share: divergences by image, DKD's parts, the Z score.

Registers no method. Everything is computed outside autocast in at least float32, and
without shapes that depend on values, so that nothing waits for the device. Logits are
``(B, K)``, labels ``(B,)`` int64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from wcordbench.methods.base import Setup


def exact(logits: Tensor) -> Tensor:
    """Logits in at least float32: half precision becomes float32, float64 stays."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def is_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Where a column is the image's own class, ``(B, K)`` bool."""
    return torch.arange(logits.shape[1], device=logits.device) == labels[:, None]


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) ‖ softmax(student)) of each image in nats, ``(B,)``."""
    log_s, log_t = torch.log_softmax(student, 1), torch.log_softmax(teacher, 1)
    return (log_t.exp() * (log_t - log_s)).sum(1)


def log_share(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the softmax's sum over one class an image, and over all the others.

    Both by differences of log-sum-exp, so that the others' mass may be too small for its
    own probability to be told from zero.

    Args:
        logits: with K ≥ 2.
        chosen: one True a row, ``(B, K)``.

    Returns:
        Two tensors ``(B,)``.
    """
    total = torch.logsumexp(logits, 1)
    own = logits.masked_fill(~chosen, 0.0).sum(1) - total
    others = torch.logsumexp(logits.masked_fill(chosen, -math.inf), 1) - total
    return own, others


def two_valued(log_s: tuple[Tensor, Tensor], log_t: tuple[Tensor, Tensor]) -> Tensor:
    """KL of the teacher's distribution over two values from the student's, ``(B,)``."""
    return sum(
        (t.exp() * (t - s) for s, t in zip(log_s, log_t, strict=True)),
        start=torch.zeros_like(log_s[0]),
    )


def among(student: Tensor, teacher: Tensor, left_out: Tensor) -> Tensor:
    """KL between the softmaxes over the classes that are not left out, ``(B,)``.

    Args:
        student, teacher: logits.
        left_out: ``(B, K)`` bool; at least one class a row must stay.
    """
    log_s, log_t = (
        torch.log_softmax(x.masked_fill(left_out, -math.inf), 1) for x in (student, teacher)
    )
    return (log_t.exp() * (log_t - log_s).masked_fill(left_out, 0.0)).sum(1)


def decoupled(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each image, before T².

    Zhao et al., "Decoupled Knowledge Distillation" (CVPR 2022), equations 3 to 7.

    Args:
        student, teacher: logits with K ≥ 2, in at least float32.
        labels: the true classes.
        temperature: T > 0.

    Returns:
        Two tensors ``(B,)`` in nats: KL between true class and rest, and KL among the rest.
    """
    s, t = student / temperature, teacher / temperature
    true = is_class(s, labels)
    return two_valued(log_share(s, true), log_share(t, true)), among(s, t, true)


def standardise(logits: Tensor, epsilon: float = 1e-7) -> Tensor:
    """The Z score of each image's logits, through which the gradient passes.

    Sun et al., "Logit Standardization in Knowledge Distillation" (CVPR 2024), algorithm 1,
    with the deviation's K − 1 as in their code.

    Args:
        logits: ``(B, K)`` with K ≥ 2, in at least float32.
        epsilon: added to the deviation.

    Returns:
        ``(B, K)``; zero where all of an image's logits are equal.
    """
    deviation = logits.std(1, keepdim=True)
    return (logits - logits.mean(1, keepdim=True)) / (deviation + epsilon)


def too_few_classes(setup: Setup) -> str | None:
    """Why a method that needs a class beside the true one is undefined, or None."""
    if setup.num_classes < 2:
        return f"it compares classes, and the dataset has {setup.num_classes}"
    return None


__all__ = [
    "among", "decoupled", "divergence", "exact", "is_class", "log_share", "standardise",
    "too_few_classes", "two_valued",
]  # fmt: skip
