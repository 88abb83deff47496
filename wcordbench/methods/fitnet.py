"""FitNets: hints from a middle layer (Romero et al., ICLR 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.regressor import regressor, regressor_gap
from wcordbench.registry import register_method


def hint_loss(regressed: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between two maps of one shape, in fp32.

    Args:
        regressed: the student's map in the teacher's shape, ``(B, C, H, W)``.
        teacher: ``(B, C, H, W)``; receives no gradient.

    Returns:
        A scalar.
    """
    return F.mse_loss(regressed.float(), teacher.detach().float())


@register_method("fitnet", title="FitNet", paper="Romero et al., ICLR 2015", gamma=1.0, beta=100.0)
class FitNet(Method):
    """A regressed middle map of the student imitates the teacher's.

    With r the regressor (convolution, batch norm, ReLU; see
    :func:`wcordbench.methods.regressor.regressor`) and F the second stage's map::

        L = mean over B, C, H, W of (r(F_s) − F_t)²

    FitNets: Hints for Thin Deep Nets, equation 3. Trained jointly with the cross entropy,
    not as a stage of its own.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    #: the hint layer, counted from the first stage
    STAGE = 1

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"fitnet: {reason}")
        self.regressor = regressor(
            setup.student.stages[self.STAGE], setup.teacher.stages[self.STAGE], relu=True
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Why no hint layer or no regressor onto it exists, or None."""
        student, teacher = setup.student.stages, setup.teacher.stages
        if min(len(student), len(teacher)) <= cls.STAGE:
            return f"the hint layer is stage {cls.STAGE + 1}; a network has fewer stages"
        return regressor_gap(student[cls.STAGE], teacher[cls.STAGE])

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The squared error of the hint layer, a scalar."""
        regressed = self.regressor(student.stages[self.STAGE])
        with torch.autocast(regressed.device.type, enabled=False):
            return hint_loss(regressed, teacher.stages[self.STAGE])


__all__ = ["FitNet", "hint_loss"]
