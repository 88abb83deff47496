"""Flow of solution procedure (Yim et al., CVPR 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, FirstStage, Method, Setup
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.registry import register_method


def flow_matrix(lower: Tensor, upper: Tensor) -> Tensor:
    """Mean over positions of the outer products of two layers' channels, in fp32.

    Args:
        lower: ``(B, C_1, H_1, W_1)``.
        upper: ``(B, C_2, H_2, W_2)``; the larger of the two is average-pooled to the
            smaller.

    Returns:
        ``(B, C_1, C_2)``.
    """
    with torch.autocast(lower.device.type, enabled=False):
        a, b = pool_to_smaller(lower.float(), upper.float())
        return a.flatten(2) @ b.flatten(2).mT / (a.shape[2] * a.shape[3])


def flow_loss(student: list[Tensor], teacher: list[Tensor]) -> Tensor:
    """Mean squared difference of the flow matrices, summed over neighbouring layers.

    Args:
        student: maps in the order of depth, each ``(B, C, H, W)``.
        teacher: as many, with the same channels; sizes may differ. They receive no gradient.

    Returns:
        A scalar in fp32.
    """
    losses = []
    for i in range(len(student) - 1):
        flow_s = flow_matrix(student[i], student[i + 1])
        flow_t = flow_matrix(teacher[i].detach(), teacher[i + 1].detach())
        losses.append(F.mse_loss(flow_s, flow_t))
    return torch.stack(losses).sum()


@register_method(
    "fsp", title="FSP", paper="Yim et al., CVPR 2017", gamma=1.0, beta=50.0, two_stage=True
)
class FlowOfSolution(Method):
    """Layers follow from one another as in the teacher; then cross entropy alone.

    With F_0 the stem's map and F_1 … F_L those of the stages, as matrices of C rows and
    H·W columns, the first stage minimises::

        Σ_i mean over B, C_i, C_{i+1} of (G_s,i − G_t,i)²,   G_i = F_i F_{i+1}ᵀ / (H·W)

    A Gift from Knowledge Distillation, equations 1 and 2 (the mean in place of the sum).
    Undefined where the networks' channels differ. Afterwards :meth:`forward` is zero.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"fsp: {reason}")

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Why the networks' flow matrices have different shapes, or None."""
        student = [c for c, *_ in (setup.student.stem, *setup.student.stages)]
        teacher = [c for c, *_ in (setup.teacher.stem, *setup.teacher.stages)]
        if student == teacher:
            return None
        return (
            "the channels of stem and stages must agree, but the student has"
            f" {', '.join(map(str, student))} and the teacher {', '.join(map(str, teacher))}"
        )

    @property
    def first_stage(self) -> FirstStage:
        """The student's body learns the teacher's flow."""
        return FirstStage(trains=("student_body",))

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum over neighbouring layers, a scalar."""
        return flow_loss([student.stem, *student.stages], [teacher.stem, *teacher.stages])

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Zero, a scalar: the second stage is cross entropy (and KD) alone."""
        return student.logits.new_zeros((), dtype=torch.float32)


__all__ = ["FlowOfSolution", "flow_loss", "flow_matrix"]
