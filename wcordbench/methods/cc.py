"""Correlation congruence (Peng et al., ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.options import PositiveInt
from wcordbench.registry import register_method


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean product of neighbouring images' absolute embedding differences, in fp32.

    Args:
        student: embeddings, ``(B, D)``.
        teacher: embeddings, ``(B, D)``. Gradients flow to both: both are trained.

    Returns:
        A scalar; zero for a batch of one, which has no neighbours.
    """
    with torch.autocast(student.device.type, enabled=False):
        delta = (student.float() - teacher.float()).abs()
        neighbours = max(len(delta) - 1, 1)
        return (delta[:-1] * delta[1:]).sum() / neighbours


@register_method("cc", title="CC", paper="Peng et al., ICCV 2019", gamma=1.0, beta=0.02)
class CorrelationCongruence(Method):
    """Student and teacher embeddings differ in ways that do not correlate between images.

    With e linear embeddings of the pooled features and δ_i = abs(e_s(x_i) − e_t(x_i))::

        L = 1 / (B − 1) · Σ over i of ⟨δ_i, δ_{i+1}⟩

    Correlation Congruence for Knowledge Distillation, section 3.2, in the form that CRD's
    authors compared with: neighbours in the batch stand for the pairs of images.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        embedding: dimension D of both embeddings.
    """

    def __init__(self, setup: Setup, *, embedding: PositiveInt = 128) -> None:
        super().__init__(setup)
        self.embed_student = nn.Linear(setup.student.pooled, embedding)
        self.embed_teacher = nn.Linear(setup.teacher.pooled, embedding)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the pooled features, a scalar."""
        # The products compare small differences of embeddings, too fine for half precision.
        with torch.autocast(student.pooled.device.type, enabled=False):
            e_s = self.embed_student(student.pooled.float())
            e_t = self.embed_teacher(teacher.pooled.detach().float())
            return correlation_loss(e_s, e_t)


__all__ = ["CorrelationCongruence", "correlation_loss"]
