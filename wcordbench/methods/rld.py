"""Refined logit distillation (Sun et al., 2025)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.logits import (
    among,
    exact,
    is_class,
    log_share,
    too_few_classes,
    two_valued,
)
from wcordbench.options import NonNegative, Temperature
from wcordbench.registry import register_method


@register_method(
    "rld", title="RLD", paper="Sun et al., Knowledge Distillation with Refined Logits, 2025",
    gamma=1.0, beta=1.0, schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class RefinedLogits(Method):
    """The teacher's confidence and its ranking below the true class, without its mistakes.

    With y the true class and m the class that the teacher ranks first::

        L = mean(scd · T_c² · KL((p_m, 1 − p_m) ‖ (q_y, 1 − q_y))  (p, q at T_c)
                 + mcd · T² · KL(p̂ ‖ q̂))                           (p̂, q̂ at T)

    where p̂ and q̂ are the softmaxes over the classes whose teacher logit is less than the
    true class's; an image without such a class has none of the second term. Knowledge
    Distillation with Refined Logits, sections 3.2 and 3.3. Its weight grows over the first
    20 epochs.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        confidence_temperature: T_c.
        scd: weight of the confidence (α in the paper).
        mcd: weight of the masked correlation (β in the paper).
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        confidence_temperature: Temperature = 1.0,
        scd: NonNegative = 1.0,
        mcd: NonNegative = 8.0,
    ) -> None:
        super().__init__(setup)
        self.temperature, self.confidence_temperature = temperature, confidence_temperature
        self.scd, self.mcd = scd, mcd

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined for fewer than two classes."""
        return too_few_classes(setup)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the logits, a scalar."""
        with torch.autocast(student.logits.device.type, enabled=False):
            s, t = exact(student.logits), exact(teacher.logits.detach())
            confidence = confidence_divergence(s, t, batch.labels, self.confidence_temperature)
            ranking = masked_divergence(s, t, batch.labels, self.temperature)
            scale_c, scale = self.confidence_temperature**2, self.temperature**2
            return (self.scd * scale_c * confidence + self.mcd * scale * ranking).mean()


def confidence_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """KL of the teacher's top class against the rest from the student's true class, ``(B,)``."""
    s, t = student / temperature, teacher / temperature
    own = log_share(s, is_class(s, labels))
    return two_valued(own, log_share(t, is_class(t, t.argmax(1))))


def masked_divergence(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """KL among the classes that the teacher ranks below the true one, ``(B,)``; 0 if none."""
    bound = teacher.masked_fill(~is_class(teacher, labels), 0.0).sum(1, keepdim=True)
    above = teacher >= bound
    none = above.all(1)
    # Such a row keeps all its classes, so that it stays finite, and then does not count.
    rows = among(student / temperature, teacher / temperature, above & ~none[:, None])
    return rows.masked_fill(none, 0.0)


__all__ = ["RefinedLogits", "confidence_divergence", "masked_divergence"]
