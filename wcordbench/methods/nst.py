"""Neuron selectivity transfer (Huang & Wang, 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.registry import register_method


def selectivity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two maps' channels, in fp32.

    Args:
        student: ``(B, C_s, H_s, W_s)``.
        teacher: ``(B, C_t, H_t, W_t)``; receives no gradient. The larger of the two is
            average-pooled to the smaller.

    Returns:
        A scalar, the mean over the batch.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = pool_to_smaller(student.float(), teacher.detach().float())
        s, t = F.normalize(s.flatten(2), dim=2), F.normalize(t.flatten(2), dim=2)
        size, c_s, positions = s.shape
        c_t = t.shape[1]
        if positions * (c_s + c_t) < c_s * c_s + c_s * c_t + c_t * c_t:
            # Σ_ij ⟨a_i, b_j⟩² = ⟨AᵀA, BᵀB⟩: the three kernels' means are the square of one
            # difference of H·W x H·W matrices, smaller here than those of the channels.
            gap = torch.baddbmm(t.mT @ t, s.mT, s, beta=-1 / c_t, alpha=1 / c_s)
            return _sum_of_squares(gap) / size
        return _kernel_mean(t, t) + _kernel_mean(s, s) - 2 * _kernel_mean(s, t)


def _kernel_mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean of ⟨a_i, b_j⟩² over the batch and all pairs of channels of ``(B, C, P)`` maps."""
    product = a @ b.mT
    return _sum_of_squares(product) / product.numel()


def _sum_of_squares(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)  # stores no squares
    return norm.square()


@register_method("nst", title="NST", paper="Huang & Wang, 2017", gamma=1.0, beta=50.0)
class NeuronSelectivity(Method):
    """The student's channels are distributed over positions as the teacher's are.

    With a_i the student's and b_j the teacher's channel maps of one image, flattened and of
    unit length, and the kernel k(x, y) = ⟨x, y⟩², for each stage::

        MMD² = mean_ij k(b_i, b_j) + mean_ij k(a_i, a_j) − 2 · mean_ij k(a_i, b_j)

    and L is its mean over the batch, summed over stages. Like What You Like: Knowledge
    Distill via Neuron Selectivity Transfer, the polynomial kernel with d = 2 and c = 0.
    Stages are matched from the first on; a deeper network's last ones are left out.
    """

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum over the matched stages, a scalar."""
        pairs = zip(student.stages, teacher.stages, strict=False)
        return torch.stack([selectivity_loss(s, t) for s, t in pairs]).sum()


__all__ = ["NeuronSelectivity", "selectivity_loss"]
