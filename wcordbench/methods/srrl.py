"""Softmax regression representation learning (Yang et al., ICLR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.registry import register_method


@register_method("srrl", title="SRRL", paper="Yang et al., ICLR 2021", gamma=1.0, beta=1.0)
class SoftmaxRegression(Method):
    """The student's features, judged by the teacher's classifier.

    With r = ReLU(BN(W · pooled student)) in the teacher's length and c the teacher's frozen
    classifier::

        L = mean (r − pooled teacher)² + mean (c(r) − teacher's logits)²

    both over everything. Knowledge Distillation via Softmax Regression Representation Learning,
    equations 3 and 6, with the squared error on logits. Published with KD beside it
    (``srrl+kd``).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        length = setup.teacher.pooled
        self.connector = nn.Sequential(
            nn.Linear(setup.student.pooled, length, bias=False),
            nn.BatchNorm1d(length),
            nn.ReLU(inplace=True),
        )

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined where the teacher shows no classifier."""
        return lacking(setup, "teacher_classifier")

    def parts(self, student: Features, teacher: Features) -> tuple[Tensor, Tensor]:
        """The errors of the features and of the logits, scalars."""
        classifier = self.setup.teacher_classifier
        assert classifier is not None
        connected = self.connector(student.pooled)
        logits = classifier(connected)
        with torch.autocast(connected.device.type, enabled=False):
            return (
                F.mse_loss(connected.float(), teacher.pooled.detach().float()),
                F.mse_loss(logits.float(), teacher.logits.detach().float()),
            )

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum of both errors, a scalar."""
        feature, logit = self.parts(student, teacher)
        return feature + logit


__all__ = ["SoftmaxRegression"]
