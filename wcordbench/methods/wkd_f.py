"""Wasserstein distance of features (Lv et al., NeurIPS 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.regressor import regressor, regressor_gap
from wcordbench.options import NonNegative, Positive, PositiveInt
from wcordbench.registry import register_method


def moments(x: Tensor, grid: int, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel on each cell of a grid.

    Args:
        x: ``(B, C, H, W)`` in float32; H and W are multiples of ``grid``.
        grid: cells a side.
        epsilon: added to the variance, which is the one with n − 1.

    Returns:
        Two tensors ``(B, C, grid, grid)``.
    """
    size, channels, height, width = x.shape
    cells = x.view(size, channels, grid, height // grid, grid, width // grid)
    variance, mean = torch.var_mean(cells, dim=(3, 5))
    return mean, (variance + epsilon).sqrt()


@register_method(
    "wkd_f", title="WKD-F", paper="Lv et al., NeurIPS 2024", gamma=1.0, beta=0.08,
    schedule={"cosine": {"after": 150}},
)  # fmt: skip
class WassersteinFeatures(Method):
    """Wasserstein distance between the last maps' channels as Gaussians.

    With μ and σ of each channel on each cell, of the teacher's map and of the student's after a
    regressor (convolution with bias, batch norm, ReLU)::

        L = (ratio · Σ (μ_s − μ_t)² + Σ (σ_s − σ_t)²) / (B · grid²)

    sums over everything. Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge
    Distillation, equation 10. Weight, ratio and grid are set per pair there; the defaults are
    resnet32x4→resnet8x4's. The map is the last stage's output.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        mean_ratio: weight of the means beside the deviations.
        grid: cells a side; each needs two pixels or more.
        epsilon: added to the variances.

    Raises:
        UserError: the pair is :meth:`unsupported`, or the teacher's map cannot be cut into
            such cells.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        mean_ratio: NonNegative = 4.0,
        grid: PositiveInt = 1,
        epsilon: Positive = 1e-5,
    ) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup) or _uncut(setup.teacher.stages[-1], grid)
        if reason:
            raise UserError(f"wkd_f: {reason}")
        self.mean_ratio, self.grid, self.epsilon = mean_ratio, grid, epsilon
        self.projector = regressor(
            setup.student.stages[-1], setup.teacher.stages[-1], relu=True, bias=True
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Why no regressor exists or a channel has no deviation, or None."""
        student, teacher = setup.student.stages[-1], setup.teacher.stages[-1]
        if teacher[1] * teacher[2] < 2:
            return "the teacher's last map has one pixel, which has no deviation"
        return regressor_gap(student, teacher)

    def parts(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        """The sums of the means' and of the deviations' squared errors, by image and cell."""
        projected = self.projector(student.stages[-1])
        with torch.autocast(projected.device.type, enabled=False):
            target = teacher.stages[-1].detach().float()
            mean_s, std_s = moments(projected.float(), self.grid, self.epsilon)
            mean_t, std_t = moments(target, self.grid, self.epsilon)
            count = len(target) * self.grid**2
            means = (mean_s - mean_t).square().sum() / count
            return means, (std_s - std_t).square().sum() / count

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the last stages, a scalar."""
        means, deviations = self.parts(student, teacher)
        return self.mean_ratio * means + deviations


def _uncut(shape: tuple[int, ...], grid: int) -> str | None:
    """Why a map ``(C, H, W)`` has no such grid of cells of two pixels or more, or None."""
    _, height, width = shape
    cell = (height // grid) * (width // grid)
    if height % grid or width % grid or cell < 2:
        return (
            f"the teacher's last map of {height}x{width} has no grid of {grid}x{grid} equal cells"
            " of two pixels or more; give a smaller grid"
        )
    return None


__all__ = ["WassersteinFeatures", "moments"]
