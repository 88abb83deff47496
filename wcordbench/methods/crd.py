"""Contrastive representation distillation (Tian et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from wcordbench.methods.base import Batch, Features, Setup
from wcordbench.methods.contrast import MemoryContrast, Negatives
from wcordbench.options import Annotated, Interval, PositiveInt, Temperature
from wcordbench.registry import register_method


@register_method("crd", title="CRD", paper="Tian et al., ICLR 2020", gamma=1.0, beta=0.8)
class CRD(MemoryContrast):
    """Noise-contrastive estimation between the two networks' pooled features.

    Tian et al., "Contrastive Representation Distillation" (ICLR 2020), equations 17–19.

    Args:
        setup: shapes and training labels.
        feature_dim: width of both embeddings.
        negatives: negatives drawn for each image.
        temperature: divides the scores.
        momentum: share of the old entry in an updated bank entry.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        feature_dim: PositiveInt = 128,
        negatives: PositiveInt = 16384,
        temperature: Temperature = 0.07,
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(
            setup,
            feature_dim=feature_dim,
            negatives=negatives,
            temperature=temperature,
            momentum=momentum,
            spectral=False,
        )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The contrastive loss of both sides; updates the banks in training mode."""
        return self._loss(student.pooled, teacher.pooled, batch.indices, self.draw(batch.indices))

    def _loss(self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives) -> Tensor:
        embed_s, embed_t = self.embed_student(student), self.embed_teacher(teacher)
        loss = self.nce(embed_s, embed_t, indices, drawn)
        if self.training:
            self.update_banks(embed_s, embed_t, indices)
        return loss
