"""Decoupled knowledge distillation (Zhao et al., CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.logits import decoupled, exact, too_few_classes
from wcordbench.options import NonNegative, Temperature
from wcordbench.registry import register_method


@register_method(
    "dkd", title="DKD", paper="Zhao et al., CVPR 2022", gamma=1.0, beta=1.0,
    schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class DecoupledKD(Method):
    """Knowledge distillation in two terms, the true class's and the others', weighted apart.

    With b(p) = (p_y, 1 − p_y) and p̂ the softmax over the K − 1 classes other than y, at
    temperature T::

        L = T² · mean(tckd · KL(b(p_t) ‖ b(p_s)) + nckd · KL(p̂_t ‖ p̂_s))

    Decoupled Knowledge Distillation, equation 7. Its weight grows over the first 20
    epochs unless a suite says otherwise.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        tckd: weight of the true class's term (α in the paper).
        nckd: weight of the other classes' term (β in the paper); set per pair there.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        tckd: NonNegative = 1.0,
        nckd: NonNegative = 8.0,
    ) -> None:
        super().__init__(setup)
        self.temperature, self.tckd, self.nckd = temperature, tckd, nckd

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined for fewer than two classes."""
        return too_few_classes(setup)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the logits, a scalar."""
        return decoupled_loss(
            student.logits, teacher.logits, batch.labels, self.temperature, self.tckd, self.nckd
        )


def decoupled_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, tckd: float, nckd: float
) -> Tensor:
    """DKD's loss in at least float32; see :class:`DecoupledKD`.

    Args:
        student, teacher: logits ``(B, K)``; the teacher's receive no gradient.
        labels: ``(B,)`` int64.
        temperature: T > 0.
        tckd, nckd: the two terms' weights.

    Returns:
        A scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        target, others = decoupled(exact(student), exact(teacher.detach()), labels, temperature)
        return (tckd * target + nckd * others).mean() * temperature**2


__all__ = ["DecoupledKD", "decoupled_loss"]
