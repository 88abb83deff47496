"""Distillation of activation boundaries (Heo et al., AAAI 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, FirstStage, Method, Setup, lacking
from wcordbench.methods.regressor import regressor, regressor_gap
from wcordbench.options import Positive
from wcordbench.registry import register_method


def boundary_loss(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    """Squared hinge that puts each value on the teacher's side of zero, in fp32.

    Args:
        student: values before the ReLU, ``(B, C, H, W)``.
        teacher: the same of the teacher, ``(B, C, H, W)``; only signs matter, and no
            gradient reaches it.
        margin: how far on that side is far enough, in units of the values.

    Returns:
        A scalar, the sum over channels and positions and the mean over the batch.
    """
    with torch.autocast(student.device.type, enabled=False):
        s = student.float()
        gap = F.relu(margin - torch.where(teacher.detach() > 0, s, -s))
        norm: Tensor = torch.linalg.vector_norm(gap)  # stores no squares
        return norm.square() / len(s)


@register_method(
    "ab", title="AB", paper="Heo et al., AAAI 2019", gamma=1.0, beta=1.0, two_stage=True
)
class ActivationBoundaries(Method):
    """The student's neurons switch where the teacher's do; then cross entropy alone.

    With x_i the values of stage i before its last ReLU, r_i a connector (convolution and
    batch norm) where the shapes differ, m the margin, L matched stages and
    i = 0 … L − 1, the first stage minimises::

        3 / 1000 · Σ_i 2^(i − L + 1) / B · Σ max(0, m − sign(x_t,i > 0) · r_i(x_s,i))²

    with sign +1 where true and −1 where not. Knowledge Transfer via Distillation of
    Activation Boundaries Formed by Hidden Neurons, the piecewise differentiable loss; the
    stages' weights and the factor 3 / 1000 are CRD's. Stages are matched from the first on;
    a deeper network's last ones are left out. Afterwards :meth:`forward` is zero.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        margin: m.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(self, setup: Setup, *, margin: Positive = 1.0) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"ab: {reason}")
        self.margin = margin
        self.connectors = nn.ModuleList(
            nn.Identity() if s == t else regressor(s, t, relu=False)
            for s, t in zip(setup.student.stages, setup.teacher.stages, strict=False)
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where no connector leads from a student's stage to the teacher's, or the
        student shows its stages after their ReLU alone: none is ever below 0 there.
        """
        for s, t in zip(setup.student.stages, setup.teacher.stages, strict=False):
            gap = regressor_gap(s, t)
            if gap:
                return gap
        return lacking(setup, "student_preact")

    @property
    def first_stage(self) -> FirstStage:
        """The student's body and the connectors learn the boundaries."""
        return FirstStage(trains=("student_body", "method"))

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The weighted sum over the matched stages, a scalar."""
        # The connectors are as many as the matched stages.
        stages = zip(self.connectors, student.stages_preact, teacher.stages_preact, strict=False)
        last = len(self.connectors) - 1
        losses = [
            2.0 ** (i - last) * boundary_loss(connect(s), t, self.margin)
            for i, (connect, s, t) in enumerate(stages)
        ]
        return torch.stack(losses).sum() * (3 / 1000)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Zero, a scalar: the second stage is cross entropy (and KD) alone."""
        return student.logits.new_zeros((), dtype=torch.float32)


__all__ = ["ActivationBoundaries", "boundary_loss"]
