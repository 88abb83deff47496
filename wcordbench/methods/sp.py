"""Similarity-preserving distillation (Tung & Mori, ICCV 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method
from wcordbench.registry import register_method


def similarity_matrix(features: Tensor) -> Tensor:
    """The batch's Gram matrix with rows of unit length.

    Args:
        features: ``(B, …)`` in fp32.

    Returns:
        ``(B, B)``, L2-normalised rows; zero rows where the features are zero.
    """
    flat = features.flatten(1)
    return F.normalize(flat @ flat.mT, dim=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two batches' similarity matrices, in fp32.

    Args:
        student: ``(B, …)``.
        teacher: ``(B, …)`` of any other shape; receives no gradient.

    Returns:
        A scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        g_s = similarity_matrix(student.float())
        g_t = similarity_matrix(teacher.detach().float())
        return F.mse_loss(g_s, g_t)


@register_method("sp", title="SP", paper="Tung & Mori, ICCV 2019", gamma=1.0, beta=3000.0)
class SimilarityPreserving(Method):
    """Images that are alike for the teacher are alike for the student.

    With A the last stage's map as a matrix of B rows, and the rows of G = A Aᵀ of unit
    length::

        L = ‖G_s − G_t‖²_F / B²

    Similarity-Preserving Knowledge Distillation, equations 1 to 3. The maps may have
    different shapes.
    """

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the last stage, a scalar."""
        return similarity_loss(student.stages[-1], teacher.stages[-1])


__all__ = ["SimilarityPreserving", "similarity_loss", "similarity_matrix"]
