"""Semantic calibration across layers (Chen et al., AAAI 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.options import PositiveInt, Temperature
from wcordbench.registry import register_method


def similarity(x: Tensor) -> Tensor:
    """Gram matrix of the images of a batch, ``(B, B)``, of maps ``(B, C, H, W)``."""
    flat = x.flatten(1)
    return flat @ flat.mT


def embedding(batch: int, out: int) -> nn.Sequential:
    """From a row of similarities to a query or key, before its length is made 1."""
    return nn.Sequential(nn.Linear(batch, 2 * out), nn.ReLU(inplace=True), nn.Linear(2 * out, out))


def projection(student: int, teacher: int) -> nn.Sequential:
    """Three convolutions from the student's channels to the teacher's, 2 · teacher's between."""
    between = 2 * teacher
    return nn.Sequential(
        nn.Conv2d(student, between, 1, bias=False),
        nn.BatchNorm2d(between),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, between, 3, padding=1, bias=False),
        nn.BatchNorm2d(between),
        nn.ReLU(inplace=True),
        nn.Conv2d(between, teacher, 1, bias=False),
    )


@register_method("semckd", title="SemCKD", paper="Chen et al., AAAI 2021", gamma=1.0, beta=400.0)
class SemanticCalibration(Method):
    """Each stage of the student matches the teacher's stages, as far as they attend to each other.

    The attention of student stage i over teacher stages j is, for each image, the softmax of
    the products of query_i and key_j, which are made of the image's similarities to all images
    of the batch::

        L = Σ over images, i, j of attention_ij · mean_CHW (r_ij(s_i) − t_j)² / (B · n_s)

    where both maps are average-pooled to the smaller size and r_ij is three convolutions.
    Cross-Layer Distillation with Semantic Calibration, equations 5 to 8. Published with KD
    beside it (``semckd+kd``). The similarities' networks are built for whole batches: an
    incomplete one has a loss of zero.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        factor: queries and keys have B / factor numbers.
        scale: the products are divided by it.

    Raises:
        UserError: the pair is :meth:`unsupported`, or a batch has fewer images than ``factor``.
    """

    def __init__(self, setup: Setup, *, factor: PositiveInt = 4, scale: Temperature = 1.0) -> None:
        super().__init__(setup)
        reason = self.unsupported(setup)
        if reason:
            raise UserError(f"semckd: {reason}")
        assert setup.batch_size is not None
        self.size, self.scale = setup.batch_size, scale
        length = self.size // factor
        if length < 1:
            raise UserError(
                f"semckd: factor ({factor}) must not exceed the batch size ({self.size})"
            )
        student, teacher = setup.student.stages, setup.teacher.stages
        self.queries = nn.ModuleList(embedding(self.size, length) for _ in student)
        self.keys = nn.ModuleList(embedding(self.size, length) for _ in teacher)
        self.projections = nn.ModuleList(
            nn.ModuleList(projection(s[0], t[0]) for t in teacher) for s in student
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where the batch size is not known."""
        return lacking(setup, "batch_size")

    def attention(self, student: Features, teacher: Features) -> Tensor:
        """Of each student stage over the teacher's, ``(B, n_s, n_t)`` in float32."""
        with torch.autocast(student.logits.device.type, enabled=False):
            queries, keys = (
                torch.stack(
                    [
                        F.normalize(embed(similarity(x.float())), dim=1)
                        for embed, x in zip(embeddings, stages, strict=True)
                    ],
                    1,
                )
                for embeddings, stages in (
                    (self.queries, student.stages),
                    (self.keys, [t.detach() for t in teacher.stages]),
                )
            )
            return torch.softmax(queries @ keys.mT / self.scale, 2)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss over all pairs of stages, a scalar."""
        images = len(student.logits)
        if images != self.size:
            return student.logits.new_zeros((), dtype=torch.float32)
        attention = self.attention(student, teacher)
        errors = [
            [self._error(r, s, t) for r, t in zip(row, teacher.stages, strict=True)]
            for row, s in zip(self._rows(), student.stages, strict=True)
        ]
        by_pair = torch.stack([torch.stack(row, 1) for row in errors], 1)
        return (attention * by_pair).sum() / (images * len(errors))

    def _rows(self) -> list[list[nn.Module]]:
        return [list(row) for row in self.projections if isinstance(row, nn.ModuleList)]

    def _error(self, project: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared error of each image, ``(B,)``."""
        s, t = pool_to_smaller(student, teacher.detach())
        projected = project(s)
        with torch.autocast(projected.device.type, enabled=False):
            error: Tensor = (projected.float() - t.float()).square().mean((1, 2, 3))
            return error


__all__ = ["SemanticCalibration", "embedding", "projection", "similarity"]
