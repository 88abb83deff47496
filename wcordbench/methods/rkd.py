"""Relational knowledge distillation (Park et al., CVPR 2019)."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.options import NonNegative
from wcordbench.registry import register_method

#: Distances below this share of the greatest one are rounding errors and count as zero,
RESOLUTION = 1e-6
#: as do those below this length, whose inverse squares leave fp32's range.
SHORTEST = 1e-12


class _PairwiseDistances(torch.autograd.Function):
    """Euclidean distances whose gradient is zero, not NaN, between equal points.

    The forward pass subtracts, so that equal points are at distance exactly zero (the
    expansion by a Gram matrix would leave a rounding error, and an arbitrary direction).
    The backward pass is a matrix product: the library's own writes B x B x D on CUDA.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        least = (RESOLUTION * distance.amax()).clamp_min(SHORTEST)
        distance = distance.masked_fill(distance <= least, 0.0)
        ctx.save_for_backward(x, distance)
        return distance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, distance = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            # ∂d_ij / ∂x_i = (x_i − x_j) / d_ij, and each pair occurs as ij and as ji.
            weight = (grads[0] / distance).masked_fill(distance == 0, 0.0)
            weight = weight + weight.mT
            gradient: Tensor = weight.sum(1, keepdim=True) * x - weight @ x
        return gradient


def relative_distances(features: Tensor) -> Tensor:
    """Distances between the points of a batch, divided by their mean over distinct pairs.

    Args:
        features: ``(B, D)`` in fp32.

    Returns:
        ``(B, B)``; zero throughout where all points are equal.
    """
    size = len(features)
    # Distances do not change with the origin; rounding errors are least near the centre.
    distance: Tensor = _PairwiseDistances.apply(features - features.mean(0))
    mean = distance.sum() / max(size * (size - 1), 1)
    return distance / (mean + (mean == 0))


def angle_cosines(distance: Tensor) -> Tensor:
    """Cosines of the angles that all triples of points form.

    The law of cosines, cos = (d_ij² + d_ik² − d_jk²) / (2 d_ij d_ik), gives them from the
    distances alone: nothing here has B² times the features' dimension.

    Args:
        distance: ``(B, B)``.

    Returns:
        ``(B, B, B)``: entry ijk is the cosine at point i between the directions to j and
        to k; zero where i coincides with either.
    """
    square = distance.square()
    # Through infinity, not a mask afterwards: the gradient at distance zero is then zero.
    inverse = distance.masked_fill(distance == 0, math.inf).reciprocal()
    half_inverse = inverse * 0.5
    twice = square[:, :, None] + square[:, None, :]
    twice -= square[None, :, :]
    return twice * (inverse[:, :, None] * half_inverse[:, None, :])


def relational_loss(
    student: Tensor, teacher: Tensor, distance_weight: float = 25.0, angle_weight: float = 50.0
) -> Tensor:
    """Smooth L1 difference of two batches' distances and angles, in fp32.

    Args:
        student: ``(B, D_s)``.
        teacher: ``(B, D_t)``; receives no gradient.
        distance_weight: of the pairs' term; zero leaves it out.
        angle_weight: of the triples' term; zero leaves it, and its B³ numbers, out.

    Returns:
        A scalar: each term is the mean over all pairs (triples), equal indices included.
    """
    with torch.autocast(student.device.type, enabled=False):
        d_s = relative_distances(student.float())
        d_t = relative_distances(teacher.detach().float())
        loss = distance_weight * F.smooth_l1_loss(d_s, d_t)
        if angle_weight:
            angle = F.smooth_l1_loss(angle_cosines(d_s), angle_cosines(d_t))
            loss = loss + angle_weight * angle
        return loss


@register_method("rkd", title="RKD", paper="Park et al., CVPR 2019", gamma=1.0, beta=1.0)
class Relational(Method):
    """Distances and angles between images agree in both networks' pooled features.

    With ψ_d(i, j) = ‖x_i − x_j‖ / (its mean over distinct pairs), ψ_a(i, j, k) the cosine
    at x_i between the directions to x_j and x_k, and h the smooth L1 (Huber) function::

        L = w_d · mean over i, j of h(ψ_d of s − ψ_d of t)
          + w_a · mean over i, j, k of h(ψ_a of s − ψ_a of t)

    Relational Knowledge Distillation, RKD-DA (the mean in place of the sum).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        distance_weight: w_d.
        angle_weight: w_a; zero also saves its B³ numbers.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        distance_weight: NonNegative = 25.0,
        angle_weight: NonNegative = 50.0,
    ) -> None:
        super().__init__(setup)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the pooled features, a scalar."""
        return relational_loss(
            student.pooled, teacher.pooled, self.distance_weight, self.angle_weight
        )


__all__ = ["Relational", "angle_cosines", "relational_loss", "relative_distances"]
