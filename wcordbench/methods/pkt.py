"""Probabilistic knowledge transfer (Passalis & Tefas, ECCV 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.options import Positive
from wcordbench.registry import register_method


def neighbour_probabilities(features: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Each image's distribution over the batch, by cosine similarity.

    Args:
        features: ``(B, D)`` in fp32.
        epsilon: added to the norms.

    Returns:
        ``(B, B)``, rows that sum to one: (cosine + 1) / 2, divided by the row's sum. A zero
        vector has cosine zero with everything.
    """
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    # A dead vector has no direction: no gradient either, rather than one of 1 / epsilon.
    unit = features * (norm + epsilon).reciprocal().masked_fill(norm == 0, 0.0)
    similarity: Tensor = (unit @ unit.mT + 1) / 2
    return similarity / similarity.sum(1, keepdim=True)


def probabilistic_loss(student: Tensor, teacher: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Divergence of the student's neighbour probabilities from the teacher's, in fp32.

    Args:
        student: ``(B, D_s)``.
        teacher: ``(B, D_t)``; receives no gradient.
        epsilon: added to norms and probabilities.

    Returns:
        A scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        p_s = neighbour_probabilities(student.float(), epsilon)
        p_t = neighbour_probabilities(teacher.detach().float(), epsilon)
        return (p_t * ((p_t + epsilon) / (p_s + epsilon)).log()).mean()


@register_method("pkt", title="PKT", paper="Passalis & Tefas, ECCV 2018", gamma=1.0, beta=30000.0)
class ProbabilisticTransfer(Method):
    """The student's neighbourhoods of images follow the teacher's.

    With p_ij ∝ (cos(x_i, x_j) + 1) / 2 over j, for the pooled features x::

        L = mean over i, j of p_t,ij · log((p_t,ij + ε) / (p_s,ij + ε))

    Learning Deep Representations with Probabilistic Knowledge Transfer, with the cosine
    similarity as kernel (the mean in place of the sum).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        epsilon: ε, also added to the features' norms.
    """

    def __init__(self, setup: Setup, *, epsilon: Positive = 1e-7) -> None:
        super().__init__(setup)
        self.epsilon = epsilon

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the pooled features, a scalar."""
        return probabilistic_loss(student.pooled, teacher.pooled, self.epsilon)


__all__ = ["ProbabilisticTransfer", "neighbour_probabilities", "probabilistic_loss"]
