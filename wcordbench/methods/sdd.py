"""Scale decoupled distillation (Wei et al., CVPR 2024), of KD, DKD and NKD."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.logits import (
    decoupled,
    divergence,
    exact,
    is_class,
    too_few_classes,
)
from wcordbench.methods.regressor import pool_to
from wcordbench.options import Annotated, MinLen, NonNegative, Temperature
from wcordbench.registry import register_method

#: positions a side that the map is pooled to before all else
FINEST = 4


class Cells(NamedTuple):
    """Both networks' logits of every cell, and which cells complement the whole image.

    Attributes:
        student, teacher: ``(N, B, K)``.
        labels: the image's class, ``(N, B)``.
        complementary: where the teacher is right in the cell and wrong on the whole, or the
            reverse, ``(N, B)`` bool.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    complementary: Tensor


def cells(features: Tensor, scales: tuple[int, ...]) -> Tensor:
    """The channels' means on the cells of each scale, ``(N, B, C)``, and of the whole first.

    Args:
        features: ``(B, C, H, W)``; pooled to 4x4 first, where a smaller map repeats itself.
        scales: cells a side, each a divisor of 4.
    """
    finest = pool_to(features, (FINEST, FINEST))
    found = [pool_to(finest, (side, side)).flatten(2) for side in (1, *scales)]
    return torch.cat(found, 2).permute(2, 0, 1)


class ScaleDecoupled(Method):
    """Base of SDD: a loss on the logits of every cell of the map before pooling.

    Cells' channel means go through each network's own classifier. Cells that are
    complementary weigh more::

        L = Σ over cells and images of w · row / (N · B)

    with N cells in all. Scale Decoupled Distillation, section 3.2, as its code computes it: in
    the paper a cell is complementary if its predicted class differs from the whole's, and the
    sum is not divided by N · B.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        scales: cells a side, at each scale: 1, 2 and 4.
        complementary: the weight w of complementary cells; others have 1.

    Raises:
        UserError: the pair is :meth:`unsupported`.
    """

    def __init__(self, setup: Setup, scales: tuple[int, ...], complementary: float) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"sdd: {reason}")
        self.scales, self.complementary = tuple(scales), complementary

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where a network shows no map before pooling or no classifier."""
        return too_few_classes(setup) or lacking(
            setup, "student_map", "teacher_map", "student_classifier", "teacher_classifier"
        )

    def rows(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """The loss of each image in each cell, ``(M,)``, of logits ``(M, K)``."""
        raise NotImplementedError

    def cells(self, student: Features, teacher: Features, labels: Tensor) -> Cells:
        """What the loss is made of."""
        classifiers = self.setup.student_classifier, self.setup.teacher_classifier
        assert student.last_map is not None and teacher.last_map is not None
        assert classifiers[0] is not None and classifiers[1] is not None
        s = classifiers[0](cells(student.last_map, self.scales))[1:]
        whole, *known = classifiers[1](cells(teacher.last_map.detach(), self.scales)).split(
            [1, len(s)]
        )
        t = known[0]
        right = t.argmax(2) == labels
        return Cells(s, t, labels.expand(right.shape), right != (whole.argmax(2) == labels))

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the maps before pooling, a scalar."""
        found = self.cells(student, teacher, batch.labels)
        with torch.autocast(found.student.device.type, enabled=False):
            s, t = exact(found.student).flatten(0, 1), exact(found.teacher).flatten(0, 1)
            rows = self.rows(s, t, found.labels.flatten())
            weights = torch.where(found.complementary.flatten(), self.complementary, 1.0)
            return (weights * rows).mean()


@register_method("sdd_kd", title="SDD-KD", paper="Wei et al., CVPR 2024", gamma=0.1, beta=0.9)
class ScaleDecoupledKD(ScaleDecoupled):
    """KD in every cell: T² · KL(p(t / T) ‖ p(s / T)).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        scales: cells a side, at each scale; 1, 2, 4 in the paper for networks of two styles.
        complementary: weight of complementary cells.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        scales: Annotated[tuple[Literal[1, 2, 4], ...], MinLen(1)] = (1, 2),
        complementary: NonNegative = 2.0,
    ) -> None:
        super().__init__(setup, scales, complementary)
        self.temperature = temperature

    def rows(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """KD's loss of logits ``(M, K)``, ``(M,)``."""
        of = divergence(student / self.temperature, teacher / self.temperature)
        return of * self.temperature**2


@register_method(
    "sdd_dkd", title="SDD-DKD", paper="Wei et al., CVPR 2024", gamma=1.0, beta=1.0,
    schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class ScaleDecoupledDKD(ScaleDecoupled):
    """DKD in every cell: T² · (tckd · TCKD + nckd · NCKD).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        tckd: weight of the true class's term.
        nckd: weight of the other classes' term, set per pair in the paper.
        scales: cells a side, at each scale; 1, 2, 4 in the paper for networks of two styles.
        complementary: weight of complementary cells.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        tckd: NonNegative = 1.0,
        nckd: NonNegative = 8.0,
        scales: Annotated[tuple[Literal[1, 2, 4], ...], MinLen(1)] = (1, 2),
        complementary: NonNegative = 2.0,
    ) -> None:
        super().__init__(setup, scales, complementary)
        self.temperature, self.tckd, self.nckd = temperature, tckd, nckd

    def rows(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """DKD's loss of logits ``(M, K)``, ``(M,)``."""
        target, others = decoupled(student, teacher, labels, self.temperature)
        return (self.tckd * target + self.nckd * others) * self.temperature**2


@register_method(
    "sdd_nkd", title="SDD-NKD", paper="Wei et al., CVPR 2024", gamma=1.0, beta=1.0,
    schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class ScaleDecoupledNKD(ScaleDecoupled):
    """Normalised KD in every cell.

    With y the true class: −p_t,y log p_s,y (T = 1) − soft · T² · Σ_k p(t/T)_k log p(s/T)_k over
    all classes, as the code has it; in the paper y is left out of the second term.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T of the second term.
        soft: its weight (γ of NKD), set per pair in the paper.
        scales: cells a side, at each scale; 1, 2, 4 in the paper for networks of two styles.
        complementary: weight of complementary cells.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        soft: NonNegative = 8.0,
        scales: Annotated[tuple[Literal[1, 2, 4], ...], MinLen(1)] = (1, 2),
        complementary: NonNegative = 2.0,
    ) -> None:
        super().__init__(setup, scales, complementary)
        self.temperature, self.soft = temperature, soft

    def rows(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """NKD's loss of logits ``(M, K)``, ``(M,)``."""
        true = is_class(student, labels)
        own = torch.softmax(teacher, 1) * torch.log_softmax(student, 1)
        target = own.masked_fill(~true, 0.0).sum(1)
        p = torch.softmax(teacher / self.temperature, 1)
        cross = (p * F.log_softmax(student / self.temperature, 1)).sum(1)
        return -target - self.soft * self.temperature**2 * cross


__all__ = ["Cells", "ScaleDecoupledDKD", "ScaleDecoupledKD", "ScaleDecoupledNKD", "cells"]
