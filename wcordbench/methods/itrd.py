"""Information-theoretic representation distillation (Miles et al., BMVC 2022)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.options import NonNegative, Positive
from wcordbench.registry import register_method


def correlation_loss(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """log₂ Σ_d |c_d − 1|^(2α), c_d the correlation of dimension d over the batch (equation 6).

    Args:
        student, teacher: ``(B, D)`` in float32. A dimension without variance has c_d = 0.
        power: α.

    Returns:
        A scalar.
    """
    s, t = _standard(student), _standard(teacher)
    correlations = (s * t).mean(0)
    return torch.log2(((correlations - 1).abs() ** (2 * power)).sum())


def _standard(x: Tensor) -> Tensor:
    """Each dimension with mean 0 and deviation 1 over the batch, by the deviation with B − 1."""
    centred = x - x.mean(0)
    deviation = x.std(0, correction=min(1, len(x) - 1))
    return centred / deviation.masked_fill(deviation == 0, 1.0)


def mutual_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Rényi's joint less the student's marginal entropy, without logarithms (equation 9).

    Args:
        student: ``(B, D_s)`` in float32.
        teacher: ``(B, D_t)`` in float32.

    Returns:
        Σ G² − Σ H², a scalar: G the Gram matrix of the student's rows of unit length and H its
        product with the teacher's, element by element, each divided by its trace.
    """
    u, v = F.normalize(student, dim=1), F.normalize(teacher, dim=1)
    own = u @ u.mT
    joint = own * (v @ v.mT)
    return _normalised(own).square().sum() - _normalised(joint).square().sum()


def _normalised(gram: Tensor) -> Tensor:
    trace = gram.diagonal().sum()
    return gram / trace.masked_fill(trace == 0, 1.0)


@register_method("itrd", title="ITRD", paper="Miles et al., BMVC 2022", gamma=1.0, beta=1.0)
class InformationTheoretic(Method):
    """Correlation and mutual information of the pooled features.

    With e a linear embedding of the student's pooled features in the teacher's length::

        L = correlation · log₂ Σ_d |c_d(e, t) − 1|^(2α) + mutual · (Σ G² − Σ H²)

    see :func:`correlation_loss` and :func:`mutual_loss`; the latter takes the student's
    features themselves where they have the teacher's length. Information Theoretic
    Representation Distillation, equations 6 and 9. In the paper α is 1.01 for networks of one
    style and 1.5 for others.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        power: α.
        correlation: weight of the correlation.
        mutual: weight of the mutual information.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        power: Positive = 1.01,
        correlation: NonNegative = 2.0,
        mutual: NonNegative = 1.0,
    ) -> None:
        super().__init__(setup)
        self.power, self.correlation, self.mutual = power, correlation, mutual
        self.embed = nn.Linear(setup.student.pooled, setup.teacher.pooled)

    def parts(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both terms before their weights, of pooled features ``(B, D_s)`` and ``(B, D_t)``."""
        embedded = self.embed(student)
        with torch.autocast(embedded.device.type, enabled=False):
            e, t = embedded.float(), teacher.detach().float()
            own = student.float() if student.shape == teacher.shape else e
            return correlation_loss(e, t, self.power), mutual_loss(own, t)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the pooled features, a scalar."""
        correlation, mutual = self.parts(student.pooled, teacher.pooled)
        return self.correlation * correlation + self.mutual * mutual


__all__ = ["InformationTheoretic", "correlation_loss", "mutual_loss"]
