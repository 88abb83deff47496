"""Variational information distillation (Ahn et al., CVPR 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.options import Positive
from wcordbench.registry import register_method


def gaussian_nll(mean: Tensor, target: Tensor, variance: Tensor) -> Tensor:
    """Gaussian negative log likelihood a value in nats, without its constant, in fp32.

    Args:
        mean: ``(B, C, H, W)``.
        target: ``(B, C, H, W)``; receives no gradient.
        variance: of each channel, ``(C,)``, positive.

    Returns:
        A scalar, the mean over batch, channels and positions.
    """
    with torch.autocast(mean.device.type, enabled=False):
        # Every position of a channel shares a variance, so that the residual's mean square
        # is all that is needed of it.
        residual = mean.float() - target.detach().float()
        count = residual.numel() // residual.shape[1]
        norm: Tensor = torch.linalg.vector_norm(residual, dim=(0, 2, 3))
        return 0.5 * (norm.square() / count / variance + variance.log()).mean()


class GaussianRegressor(nn.Module):
    """The distribution q(t | s) of one stage: a predicted mean and a variance per channel.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        initial_variance: before training, greater than ``epsilon``.
        epsilon: the least variance.

    Raises:
        UserError: ``initial_variance`` is not greater than ``epsilon``, or ``epsilon`` is
            not positive.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        initial_variance: float = 5.0,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        if not initial_variance > epsilon > 0:
            raise UserError(
                f"vid: initial_variance ({initial_variance}) must exceed epsilon ({epsilon}),"
                " and epsilon zero"
            )
        self.epsilon = epsilon
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        rho = math.log(math.expm1(initial_variance - epsilon))  # softplus, inverted
        self.rho = nn.Parameter(torch.full((teacher_channels,), rho))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Negative log likelihood of the teacher's map given the student's.

        Args:
            student: ``(B, C_s, H_s, W_s)``.
            teacher: ``(B, C_t, H_t, W_t)``; receives no gradient. The larger of the two
                is average-pooled to the smaller.

        Returns:
            A scalar in fp32.
        """
        s, t = pool_to_smaller(student, teacher.detach())
        mean = self.mean(s)
        with torch.autocast(mean.device.type, enabled=False):
            return gaussian_nll(mean, t, F.softplus(self.rho.float()) + self.epsilon)


@register_method("vid", title="VID", paper="Ahn et al., CVPR 2019", gamma=1.0, beta=1.0)
class VariationalInformation(Method):
    """Mutual information between the networks' stages, by its variational lower bound.

    With μ three 1x1 convolutions of the student's map and one variance per channel,
    σ_c² = softplus(ρ_c) + ε::

        L = Σ over stages of mean over B, C, H, W of ((t − μ_c(s))² / σ_c² + log σ_c²) / 2

    Variational Information Distillation for Knowledge Transfer, the bound with Gaussian q
    (the mean in place of the sum). Stages are matched from the first on; a deeper network's
    last ones are left out.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        initial_variance: σ² before training, greater than ``epsilon``.
        epsilon: the least variance.

    Raises:
        UserError: ``initial_variance`` is not greater than ``epsilon``, or ``epsilon`` is
            not positive.
    """

    def __init__(
        self, setup: Setup, *, initial_variance: Positive = 5.0, epsilon: Positive = 1e-5
    ) -> None:
        super().__init__(setup)
        pairs = zip(setup.student.stages, setup.teacher.stages, strict=False)
        self.regressors = nn.ModuleList(
            GaussianRegressor(s[0], t[0], initial_variance, epsilon) for s, t in pairs
        )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum over the matched stages, a scalar."""
        # The regressors are as many as the matched stages.
        triples = zip(self.regressors, student.stages, teacher.stages, strict=False)
        return torch.stack([regress(s, t) for regress, s, t in triples]).sum()


__all__ = ["GaussianRegressor", "VariationalInformation", "gaussian_nll"]
