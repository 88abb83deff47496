"""Transformed teacher matching (Zheng & Yang, ICLR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.logits import divergence, exact
from wcordbench.options import Annotated, Interval
from wcordbench.registry import register_method


def matching(student: Tensor, teacher: Tensor, exponent: float, weighted: bool) -> Tensor:
    """KL of the power-transformed teacher from the student, averaged over the batch.

    The teacher's probabilities to the power g, renormalised, are the softmax of g times its
    logits. The student has no temperature, and there is no factor 1/g². Computed in at
    least float32.

    Args:
        student, teacher: logits ``(B, K)``; the teacher's receive no gradient.
        exponent: g = 1/T, between 0 and 1.
        weighted: multiply each image's divergence by Σ_k p_t,k^g (WTTM, equation 18), which
            is larger the smoother the teacher's distribution is.

    Returns:
        A scalar in nats.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = exact(student), exact(teacher.detach())
        rows = divergence(s, exponent * t)
        if weighted:
            rows = torch.logsumexp(exponent * torch.log_softmax(t, 1), 1).exp() * rows
        return rows.mean()


@register_method("ttm", title="TTM", paper="Zheng & Yang, ICLR 2024", gamma=1.0, beta=45.0)
class TransformedTeacherMatching(Method):
    """The student, without a temperature, matches the teacher at one.

    L = mean KL(p_t^g / Σ p_t^g ‖ p_s). Knowledge Distillation Based on Transformed Teacher
    Matching, equation 10. Exponent and weight are set per pair there; the defaults are
    vgg13→vgg8's.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        exponent: g = 1/T.
    """

    def __init__(
        self, setup: Setup, *, exponent: Annotated[float, Interval(gt=0, le=1)] = 0.1
    ) -> None:
        super().__init__(setup)
        self.exponent = exponent

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """See :func:`matching`."""
        return matching(student.logits, teacher.logits, self.exponent, weighted=False)


@register_method("wttm", title="WTTM", paper="Zheng & Yang, ICLR 2024", gamma=1.0, beta=2.25)
class WeightedTeacherMatching(Method):
    """TTM with each image weighted by the power sum of the teacher's probabilities.

    L = mean Σ_k p_t,k^g · KL(p_t^g / Σ p_t^g ‖ p_s). Knowledge Distillation Based on
    Transformed Teacher Matching, section 4. Exponent and weight are set per pair there; the
    defaults are vgg13→vgg8's.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        exponent: g = 1/T.
    """

    def __init__(
        self, setup: Setup, *, exponent: Annotated[float, Interval(gt=0, le=1)] = 0.1
    ) -> None:
        super().__init__(setup)
        self.exponent = exponent

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """See :func:`matching`."""
        return matching(student.logits, teacher.logits, self.exponent, weighted=True)


__all__ = ["TransformedTeacherMatching", "WeightedTeacherMatching", "matching"]
