"""Bringing two networks' feature maps to one shape; shared by methods, registers none.

Maps of different sizes are average-pooled to the smaller one (AT, NST, VID, FT, FSP) or
regressed onto the teacher's shape by a convolution (FitNets, AB).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError


def pool_to_smaller(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool whichever map is larger, per axis, to the other's size.

    Args:
        a: ``(B, C_a, H_a, W_a)``.
        b: ``(B, C_b, H_b, W_b)``.

    Returns:
        Both maps, ``(B, C_a, H, W)`` and ``(B, C_b, H, W)`` with H = min(H_a, H_b) and
        W = min(W_a, W_b); a map that has this size already is returned as it is.
    """
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return pool_to(a, size), pool_to(b, size)


def pool_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pool a map ``(B, C, H, W)`` to a size that is no larger."""
    height, width = x.shape[2:]
    if (height, width) == size:
        return x
    if height % size[0] == 0 and width % size[1] == 0:
        # The same numbers as adaptive pooling, whose backward pass is not deterministic on CUDA.
        return F.avg_pool2d(x, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(x, size)


def regressor_gap(student: tuple[int, ...], teacher: tuple[int, ...]) -> str | None:
    """Why no regressor leads from one map shape ``(C, H, W)`` to the other, or None."""
    (_, *size_s), (_, *size_t) = student, teacher
    half = all(2 * s == t for s, t in zip(size_s, size_t, strict=True))
    if half or all(s >= t for s, t in zip(size_s, size_t, strict=True)):
        return None
    return (
        f"no regressor leads from the student's {_by(size_s)} map to the teacher's {_by(size_t)}"
        " (it must be half as large, or at least as large)"
    )


def _by(size: list[int]) -> str:
    return "x".join(map(str, size))


def regressor(
    student: tuple[int, ...], teacher: tuple[int, ...], *, relu: bool, bias: bool = False
) -> nn.Sequential:
    """A convolution from the student's map to the teacher's shape, batch norm, maybe ReLU.

    The kernel is 3x3 with stride 2 when the student's map is twice the teacher's size, a
    4x4 transposed one with stride 2 when it is half, otherwise an unpadded kernel of
    1 + (difference in size).

    Args:
        student: ``(C_s, H_s, W_s)``.
        teacher: ``(C_t, H_t, W_t)``.
        relu: end in a ReLU, for targets after one.
        bias: of the convolution, although the batch norm subtracts it again.

    Returns:
        A module from ``(B, C_s, H_s, W_s)`` to ``(B, C_t, H_t, W_t)``.

    Raises:
        UserError: the sizes fit none of the three cases (see :func:`regressor_gap`).
    """
    gap = regressor_gap(student, teacher)
    if gap:
        raise UserError(gap)
    (c_s, h_s, w_s), (c_t, h_t, w_t) = student, teacher
    conv: nn.Module
    if (h_s, w_s) == (2 * h_t, 2 * w_t):
        conv = nn.Conv2d(c_s, c_t, 3, stride=2, padding=1, bias=bias)
    elif (2 * h_s, 2 * w_s) == (h_t, w_t):
        conv = nn.ConvTranspose2d(c_s, c_t, 4, stride=2, padding=1, bias=bias)
    else:
        conv = nn.Conv2d(c_s, c_t, (1 + h_s - h_t, 1 + w_s - w_t), bias=bias)
    tail = [nn.ReLU(inplace=True)] if relu else []
    return nn.Sequential(conv, nn.BatchNorm2d(c_t), *tail)


__all__ = ["pool_to", "pool_to_smaller", "regressor", "regressor_gap"]
