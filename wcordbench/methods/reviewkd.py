"""Knowledge review (Chen et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.regressor import pool_to
from wcordbench.options import PositiveInt
from wcordbench.registry import register_method

#: side lengths that maps are also compared at
LEVELS = (4, 2, 1)


def hierarchical_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error at full size and pooled to 4x4, 2x2 and 1x1, averaged with weights.

    The "hierarchical context loss" of section 3.4. The pooled sizes smaller than the maps
    weigh 1/2, 1/4 and 1/8, in the order they occur, the full size 1.

    Args:
        student, teacher: ``(B, C, H, H)`` of one shape, in float32.

    Returns:
        A scalar.
    """
    loss, total, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for side in LEVELS:
        if side >= teacher.shape[2]:
            continue
        weight /= 2
        s, t = (pool_to(x, (side, side)) for x in (student, teacher))
        loss = loss + weight * F.mse_loss(s, t)
        total += weight
    return loss / total


class Fusion(nn.Module):
    """One level: a stage of the student, fused with what comes from the deeper levels.

    Args:
        student: channels of its map.
        hidden: channels between.
        teacher: shape ``(C, H, W)`` of the target.
        fuses: whether there is a deeper level.
    """

    def __init__(self, student: int, hidden: int, teacher: tuple[int, ...], fuses: bool) -> None:
        super().__init__()
        self.size = teacher[1:]
        self.reduce = nn.Sequential(
            nn.Conv2d(student, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        )
        self.attention = nn.Conv2d(2 * hidden, 2, 1) if fuses else None
        self.out = nn.Sequential(
            nn.Conv2d(hidden, teacher[0], 3, padding=1, bias=False), nn.BatchNorm2d(teacher[0])
        )

    def forward(self, student: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is compared with the teacher, and what goes on to the shallower level.

        Args:
            student: ``(B, C, H, W)``.
            deeper: ``(B, hidden, H', W')``; None at the deepest level.
        """
        fused = self.reduce(student)
        if self.attention is not None:
            assert deeper is not None
            resized = F.interpolate(deeper, student.shape[2:], mode="nearest")
            both = torch.cat([fused, resized], 1)
            a, b = torch.sigmoid(self.attention(both)).chunk(2, 1)
            fused = a * fused + b * resized
        if fused.shape[2:] != self.size:
            fused = F.interpolate(fused, self.size, mode="nearest")
        return self.out(fused), fused


@register_method(
    "reviewkd", title="ReviewKD", paper="Chen et al., CVPR 2021", gamma=1.0, beta=5.0,
    schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class KnowledgeReview(Method):
    """Deep stages of the student help its shallow ones to match the teacher's.

    From the pooled features, as a map of one pixel, to the first stage, each level's map is
    fused with the deeper ones' by attention and compared with the teacher's stage before its
    last ReLU, see :func:`hierarchical_loss`; L is the sum over levels. Distilling Knowledge via
    Knowledge Review, equation 7 and figure 3. The weight is set per pair there; the default is
    resnet32x4→resnet8x4's. Stages are matched from the last on; a deeper network's first ones
    are left out.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        hidden: the fusion's channels, at most; no more than the student's pooled features have.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(self, setup: Setup, *, hidden: PositiveInt = 512) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"reviewkd: {reason}")
        width = min(hidden, setup.student.pooled)
        student, teacher = (_deep_first(s.pooled, s.stages) for s in (setup.student, setup.teacher))
        self.levels = nn.ModuleList(
            Fusion(s[0], width, t, fuses=j > 0)
            for j, (s, t) in enumerate(zip(student, teacher, strict=False))
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where a map is not square."""
        for side, shapes in (("student", setup.student), ("teacher", setup.teacher)):
            for _, height, width in shapes.stages:
                if height != width:
                    return f"the {side}'s map of {height}x{width} is not square"
        return None

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum over levels, a scalar."""
        maps = (student.pooled[:, :, None, None], *reversed(student.stages))
        targets = (teacher.pooled[:, :, None, None], *reversed(teacher.stages_preact))
        deeper: Tensor | None = None
        losses = []
        for level, x, y in zip(self.levels, maps, targets, strict=False):
            compared, deeper = level(x, deeper)
            with torch.autocast(compared.device.type, enabled=False):
                losses.append(hierarchical_loss(compared.float(), y.detach().float()))
        return torch.stack(losses).sum()


def _deep_first(pooled: int, stages: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    return [(pooled, 1, 1), *reversed(stages)]


__all__ = ["Fusion", "KnowledgeReview", "hierarchical_loss"]
