"""Many copies of the teacher's map in one expanded map of the student (Liu et al., ICLR 2023)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.logits import exact
from wcordbench.options import Positive, PositiveInt
from wcordbench.registry import register_method


class Expanded(Features):
    """A student's features with its expanded map, ``(B, N · C_t, H, W)``."""

    expansion: Tensor


def standardise(logits: Tensor, scale: float, epsilon: float = 1e-7) -> Tensor:
    """scale · (logits − mean) / sqrt(variance + ε) of each image, with the biased variance.

    Args:
        logits: ``(B, K)``.
        scale: of the result.
        epsilon: ε.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return scale * F.layer_norm(exact(logits), logits.shape[1:], eps=epsilon)


def pointwise(c_in: int, c_out: int) -> nn.Sequential:
    """A 1x1 convolution without bias, and batch norm."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))


@register_method(
    "norm", title="NORM", paper="Liu et al., ICLR 2023", gamma=0.25, beta=1.0,
    schedule={"steps": {"until": [10, 20, 180, 210], "factors": [0.1, 0.5, 1.0, 0.5, 0.1]}},
)  # fmt: skip
class ManyToOne(Method):
    """The student's map before pooling is expanded, matched many times, and contracted again.

    With F the student's map before pooling, E = BN(conv1x1(F)) of N · C_t channels and t the
    teacher's map, max-pooled where it is larger::

        L = N · mean over B, N, C, H, W of (E_i − t)²

    and the student goes on with F + BN(conv1x1(E)) in place of F, in evaluation as well. NORM:
    Knowledge Distillation via N-to-One Representation Matching, equations 3 and 4. As in the
    published code, both networks' logits are standardised in training. Published wide resnets
    have the two layers before their last batch norm, and here behind it, at the map before
    pooling like all others.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        copies: N.
        logit_scale: of standardised logits.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(
        self, setup: Setup, *, copies: PositiveInt = 8, logit_scale: Positive = 2.5
    ) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"norm: {reason}")
        self.copies, self.logit_scale = copies, logit_scale
        student, teacher = setup.student.last_map, setup.teacher.last_map
        assert student is not None and teacher is not None
        self.expand = pointwise(student[0], copies * teacher[0])
        self.contract = pointwise(copies * teacher[0], student[0])

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined without both maps before pooling, or where the student's does not divide."""
        reason = lacking(setup, "student_map", "teacher_map", "student_classifier")
        if reason:
            return reason
        student, teacher = setup.student.last_map, setup.teacher.last_map
        assert student is not None and teacher is not None
        if any(t % s for s, t in zip(student[1:], teacher[1:], strict=True)):
            sizes = " and the teacher's ".join(
                "x".join(map(str, m[1:])) for m in (student, teacher)
            )
            return f"the student's {sizes} map before pooling: the larger is no multiple"
        return None

    def adapt(
        self, student: Features, teacher: Features | None
    ) -> tuple[Features, Features | None]:
        """The student with the contracted map added; in training both logits standardised."""
        assert student.last_map is not None and self.setup.student_classifier is not None
        expansion = self.expand(student.last_map)
        last = student.last_map + self.contract(expansion)
        pooled = last.mean((2, 3))
        logits = self.setup.student_classifier(pooled)
        if self.training:
            logits = standardise(logits, self.logit_scale)
            if teacher is not None:
                scaled = standardise(teacher.logits, self.logit_scale)
                teacher = teacher._replace(logits=scaled)
        expanded = Expanded(*student._replace(last_map=last, pooled=pooled, logits=logits))
        expanded.expansion = expansion
        return expanded, teacher

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """N times the mean squared difference of the maps, a scalar."""
        assert isinstance(student, Expanded) and teacher.last_map is not None
        target = teacher.last_map.detach()
        height, width = student.expansion.shape[2:]
        ratio = (target.shape[2] // height, target.shape[3] // width)
        with torch.autocast(target.device.type, enabled=False):
            target = F.max_pool2d(target.float(), ratio) if ratio != (1, 1) else target.float()
            copies = student.expansion.float().chunk(self.copies, 1)
            return torch.stack([F.mse_loss(copy, target) for copy in copies]).sum()


__all__ = ["Expanded", "ManyToOne", "pointwise", "standardise"]
