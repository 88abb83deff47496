"""A comprehensive overhaul of feature distillation (Heo et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.registry import register_method


def margin(weight: Tensor, bias: Tensor) -> Tensor:
    """E[x | x < 0] of each channel before its ReLU, were it normal (equation 6), ``(C,)``.

    With μ the batch norm's shift and σ the size of its scale: μ − σ φ(μ/σ) / Φ(−μ/σ), and −3σ
    where Φ(−μ/σ) ≤ 0.001, as in the code. Where σ is 0, min(μ, 0).

    Args:
        weight, bias: of the batch norm, ``(C,)``.
    """
    mean, deviation = bias.double(), weight.double().abs()
    ratio = mean / deviation
    below = torch.special.ndtr(-ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    found = torch.where(below > 0.001, mean - deviation * density / below, -3 * deviation)
    return torch.where(deviation > 0, found, mean.clamp_max(0)).float()


def partial_loss(student: Tensor, teacher: Tensor, margins: Tensor) -> Tensor:
    """Squared error summed over an image's map, where it is to be corrected (equation 4).

    The target g is max(teacher, margin). Where it is not positive, a student that lies below
    it is left alone.

    Args:
        student: ``(B, C, H, W)`` in float32.
        teacher: of the same shape, before its ReLU.
        margins: ``(C,)``.

    Returns:
        A scalar, the mean over the batch.
    """
    target = torch.maximum(teacher, margins[:, None, None])
    counts = (target > 0) | (student > target)
    return (student - target).square().where(counts, 0.0).sum() / len(student)


@register_method("ofd", title="OFD", paper="Heo et al., ICCV 2019", gamma=1.0, beta=0.001)
class Overhaul(Method):
    """Stages before their ReLU, with a margin under the teacher's negative values.

    With c_i a 1x1 convolution and batch norm of the student's stage i::

        L = Σ_i 2^−(n − 1 − i) · partial(c_i, t_i)

    see :func:`partial_loss`; margins come from the teacher's batch norms. A Comprehensive
    Overhaul of Feature Distillation, equations 4 to 7. Stages are matched from the last on; of
    maps of two sizes the larger is average-pooled. The weight is the code's division by 1000.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        norms = setup.teacher_norms
        assert isinstance(norms, tuple)
        self.count = min(len(setup.student.stages), len(setup.teacher.stages))
        first_s, first_t = (len(x.stages) - self.count for x in (setup.student, setup.teacher))
        self.connectors = nn.ModuleList(
            nn.Sequential(nn.Conv2d(s[0], t[0], 1, bias=False), nn.BatchNorm2d(t[0]))
            for s, t in zip(
                setup.student.stages[first_s:], setup.teacher.stages[first_t:], strict=True
            )
        )
        for i, (weight, bias) in enumerate(norms[first_t:]):
            self.register_buffer(f"margin{i}", margin(weight, bias))

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where the teacher has no batch norm before its stages' last ReLU."""
        return lacking(setup, "teacher_norms")

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the stages before the ReLU, a scalar."""
        maps = zip(
            self.connectors,
            student.stages_preact[-self.count :],
            teacher.stages_preact[-self.count :],
            strict=True,
        )
        losses = []
        for i, (connect, x, y) in enumerate(maps):
            s, t = pool_to_smaller(connect(x), y.detach())
            with torch.autocast(s.device.type, enabled=False):
                loss = partial_loss(s.float(), t.float(), self.get_buffer(f"margin{i}"))
            losses.append(loss / 2 ** (self.count - 1 - i))
        return torch.stack(losses).sum()


__all__ = ["Overhaul", "margin", "partial_loss"]
