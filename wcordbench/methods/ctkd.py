"""Curriculum temperature (Li et al., AAAI 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.logits import divergence, exact
from wcordbench.options import NonNegative, PositiveInt, Temperature
from wcordbench.registry import register_method


class CurriculumTemperature(nn.Module):
    """A temperature that is learnt against the student, more strongly as training goes on.

    Curriculum Temperature for Knowledge Distillation, equations 5 to 8, the global
    temperature.

    Args:
        start, span: T = start + span · sigmoid(θ), of one parameter θ that begins at 1.
        epochs: over how many the gradient's factor λ falls from 0 to −1.
    """

    def __init__(self, start: float, span: float, epochs: int) -> None:
        super().__init__()
        self.start, self.span, self.epochs = start, span, epochs
        self.theta = nn.Parameter(torch.ones(1))

    def reversal(self, epoch: int) -> float:
        """λ of an epoch, counted from 1: what θ's gradient is multiplied by."""
        done = min(epoch, self.epochs) / self.epochs
        return -(1 - math.cos(math.pi * done)) / 2

    def forward(self, epoch: int) -> Tensor:
        """The temperature, ``(1,)`` in at least float32."""
        theta = exact(self.theta)
        held = theta.detach()
        # θ's value, and λ times its gradient.
        return self.start + self.span * torch.sigmoid(held + self.reversal(epoch) * (theta - held))


def tempered_loss(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """T² · KL(teacher ‖ student), with a gradient into T through both softmaxes and T².

    Args:
        student, teacher: logits ``(B, K)`` in at least float32.
        temperature: ``(1,)``.

    Returns:
        A scalar, the mean over the batch.
    """
    rows = divergence(student / temperature, teacher / temperature)
    return (rows * temperature.square()).mean()


@register_method("ctkd", title="CTKD", paper="Li et al., AAAI 2023", gamma=0.1, beta=0.9)
class CurriculumKD(Method):
    """KD at a temperature that makes it harder from epoch to epoch.

    L = T² · mean KL(p(t / T) ‖ p(s / T)), which the student minimises and θ, by
    :class:`CurriculumTemperature`, maximises.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        start, span: T lies between start and start + span.
        reversal_epochs: until the gradient into θ is fully reversed.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        start: Temperature = 1.0,
        span: NonNegative = 20.0,
        reversal_epochs: PositiveInt = 10,
    ) -> None:
        super().__init__(setup)
        self.temperature = CurriculumTemperature(start, span, reversal_epochs)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the logits, a scalar."""
        with torch.autocast(student.logits.device.type, enabled=False):
            s, t = exact(student.logits), exact(teacher.logits.detach())
            return tempered_loss(s, t, self.temperature(batch.epoch))


__all__ = ["CurriculumKD", "CurriculumTemperature", "tempered_loss"]
