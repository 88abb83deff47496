"""KD, DKD and CTKD on standardised logits (Sun et al., CVPR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.ctkd import CurriculumTemperature, tempered_loss
from wcordbench.methods.dkd import decoupled_loss
from wcordbench.methods.logits import divergence, exact, standardise, too_few_classes
from wcordbench.options import NonNegative, Positive, PositiveInt, Temperature
from wcordbench.registry import register_method


class Standardised(Method):
    """Base of methods on the Z scores z(x) = (x − mean x) / (std x + ε) of both networks' logits.

    Logit Standardization in Knowledge Distillation, algorithm 1. Of each image, with K − 1
    in the deviation, through which the student's gradient passes.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        epsilon: ε.
    """

    def __init__(self, setup: Setup, epsilon: float) -> None:
        super().__init__(setup)
        self.epsilon = epsilon

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined for fewer than two classes."""
        return too_few_classes(setup)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the standardised logits, a scalar."""
        with torch.autocast(student.logits.device.type, enabled=False):
            s, t = (
                standardise(exact(x), self.epsilon)
                for x in (student.logits, teacher.logits.detach())
            )
            return self.on_scores(s, t, batch)

    def on_scores(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The loss on Z scores ``(B, K)``, a scalar."""
        raise NotImplementedError


@register_method("kd_ls", title="KD-LS", paper="Sun et al., CVPR 2024", gamma=0.1, beta=9.0)
class StandardisedKD(Standardised):
    """KD on standardised logits: T² · mean KL(p(z(t) / T) ‖ p(z(s) / T)).

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T, set per pair in the paper.
        epsilon: added to the deviation.
    """

    def __init__(
        self, setup: Setup, *, temperature: Temperature = 2.0, epsilon: Positive = 1e-7
    ) -> None:
        super().__init__(setup, epsilon)
        self.temperature = temperature

    def on_scores(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """KD's loss on Z scores ``(B, K)``, a scalar."""
        rows = divergence(student / self.temperature, teacher / self.temperature)
        return rows.mean() * self.temperature**2


@register_method(
    "dkd_ls", title="DKD-LS", paper="Sun et al., CVPR 2024", gamma=1.0, beta=9.0,
    schedule={"warmup": {"epochs": 20}},
)  # fmt: skip
class StandardisedDKD(Standardised):
    """DKD on standardised logits; see :class:`~wcordbench.methods.dkd.DecoupledKD`.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T, set per pair in the paper.
        tckd: weight of the true class's term.
        nckd: weight of the other classes' term, set per pair in the paper.
        epsilon: added to the deviation.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 2.0,
        tckd: NonNegative = 1.0,
        nckd: NonNegative = 8.0,
        epsilon: Positive = 1e-7,
    ) -> None:
        super().__init__(setup, epsilon)
        self.temperature, self.tckd, self.nckd = temperature, tckd, nckd

    def on_scores(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """DKD's loss on Z scores ``(B, K)``, a scalar."""
        return decoupled_loss(
            student, teacher, batch.labels, self.temperature, self.tckd, self.nckd
        )


@register_method("ctkd_ls", title="CTKD-LS", paper="Sun et al., CVPR 2024", gamma=0.1, beta=9.0)
class StandardisedCTKD(Standardised):
    """CTKD on standardised logits; see :class:`~wcordbench.methods.ctkd.CurriculumKD`.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        start, span: T lies between start and start + span.
        reversal_epochs: until the gradient into θ is fully reversed.
        epsilon: added to the deviation.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        start: Temperature = 1.0,
        span: NonNegative = 2.0,
        reversal_epochs: PositiveInt = 10,
        epsilon: Positive = 1e-7,
    ) -> None:
        super().__init__(setup, epsilon)
        self.temperature = CurriculumTemperature(start, span, reversal_epochs)

    def on_scores(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """CTKD's loss on Z scores ``(B, K)``, a scalar."""
        return tempered_loss(student, teacher, self.temperature(batch.epoch))


__all__ = ["StandardisedCTKD", "StandardisedDKD", "StandardisedKD"]
