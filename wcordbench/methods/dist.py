"""Knowledge distillation from a stronger teacher (Huang et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.logits import exact
from wcordbench.options import NonNegative, Positive, Temperature
from wcordbench.registry import register_method


def correlation(a: Tensor, b: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Pearson's correlation of each row of two matrices ``(N, M)``, ``(N,)``.

    A row without variance has correlation 0 with everything; ``epsilon`` is added to the
    product of the norms.
    """
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(1) / (norms + epsilon)


@register_method("dist", title="DIST", paper="Huang et al., NeurIPS 2022", gamma=1.0, beta=2.0)
class RelationMatching(Method):
    """Correlation with the teacher in place of equality, by image and by class.

    With P and Q the teacher's and the student's softmax at temperature T, ``(B, K)``, and ρ
    Pearson's correlation::

        L = T² · (inter · (1 − mean_i ρ(P_i, Q_i)) + intra · (1 − mean_k ρ(P_·k, Q_·k)))

    Knowledge Distillation from A Stronger Teacher, equations 6 to 9; T² is the code's. The
    classes' correlation is over the batch, so that the loss depends on its size.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T.
        inter: weight of the correlation over an image's classes (β in the paper).
        intra: weight of the correlation over a class's images (γ in the paper).
        epsilon: added to the products of norms.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        inter: NonNegative = 1.0,
        intra: NonNegative = 1.0,
        epsilon: Positive = 1e-8,
    ) -> None:
        super().__init__(setup)
        self.temperature, self.inter, self.intra = temperature, inter, intra
        self.epsilon = epsilon

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the logits, a scalar."""
        with torch.autocast(student.logits.device.type, enabled=False):
            q, p = (
                torch.softmax(exact(x) / self.temperature, 1)
                for x in (student.logits, teacher.logits.detach())
            )
            inter = 1 - correlation(q, p, self.epsilon).mean()
            intra = 1 - correlation(q.mT, p.mT, self.epsilon).mean()
            return (self.inter * inter + self.intra * intra) * self.temperature**2


__all__ = ["RelationMatching", "correlation"]
