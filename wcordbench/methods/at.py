"""Attention transfer (Zagoruyko & Komodakis, ICLR 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.registry import register_method


def attention_map(features: Tensor) -> Tensor:
    """The spatial attention of a map: mean over channels of the square, of unit length.

    Args:
        features: ``(B, C, H, W)`` in fp32.

    Returns:
        ``(B, H·W)``, L2-normalised rows; zero rows where the map is zero.
    """
    # A norm reduces without storing the squares, and has gradient zero at zero.
    energy = torch.linalg.vector_norm(features, dim=1).square() / features.shape[1]
    return F.normalize(energy.flatten(1), dim=1)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps' attention, in fp32.

    Args:
        student: ``(B, C_s, H_s, W_s)``.
        teacher: ``(B, C_t, H_t, W_t)``; receives no gradient. The larger of the two is
            average-pooled to the smaller.

    Returns:
        A scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = pool_to_smaller(student.float(), teacher.detach().float())
        return F.mse_loss(attention_map(s), attention_map(t))


@register_method("at", title="AT", paper="Zagoruyko & Komodakis, ICLR 2017", gamma=1.0, beta=1000.0)
class AttentionTransfer(Method):
    """The student attends to the same places as the teacher.

    With Q = vec(mean over channels of F²) of each stage's map F::

        L = Σ over stages of mean over B, H·W of (Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖)²

    Paying More Attention to Attention, equation 2, with p = 2 and the mean square in place
    of the norm. Stages are matched from the first on; a deeper network's last ones are
    left out.
    """

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum over the matched stages, a scalar."""
        pairs = zip(student.stages, teacher.stages, strict=False)
        return torch.stack([attention_loss(s, t) for s, t in pairs]).sum()


__all__ = ["AttentionTransfer", "attention_loss", "attention_map"]
