"""Factor transfer (Kim et al., NeurIPS 2018)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, FirstStage, Method, Setup
from wcordbench.methods.regressor import pool_to_smaller
from wcordbench.options import Fraction, Positive
from wcordbench.registry import register_method


def _layers(
    kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], *channels: int, slope: float, norm: bool
) -> nn.Sequential:
    """3x3 convolutions that keep the map's size, each with (batch norm and) a leaky ReLU."""
    modules: list[nn.Module] = []
    for c_in, c_out in itertools.pairwise(channels):
        modules.append(kind(c_in, c_out, 3, padding=1, bias=not norm))
        if norm:
            modules.append(nn.BatchNorm2d(c_out))
        modules.append(nn.LeakyReLU(slope, inplace=True))
    return nn.Sequential(*modules)


class Paraphraser(nn.Module):
    """A convolutional autoencoder of the teacher's map; its code is the teacher's factor.

    Args:
        channels: C of the map.
        factors: channels of the code.
        slope: of the leaky ReLUs.
    """

    def __init__(self, channels: int, factors: int, slope: float = 0.1) -> None:
        super().__init__()
        self.encoder = _layers(
            nn.Conv2d, channels, channels, factors, factors, slope=slope, norm=False
        )
        self.decoder = _layers(
            nn.ConvTranspose2d, factors, factors, channels, channels, slope=slope, norm=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """The reconstruction of a map, both ``(B, C, H, W)``."""
        reconstruction: Tensor = self.decoder(self.encoder(features))
        return reconstruction


def unit_factor(factor: Tensor) -> Tensor:
    """Mean over channels of the square, flattened and of unit length.

    Args:
        factor: ``(B, C, H, W)`` in fp32.

    Returns:
        ``(B, H·W)``, L2-normalised rows; zero rows where the factor is zero.
    """
    # A norm reduces without storing the squares, and has gradient zero at zero.
    energy = torch.linalg.vector_norm(factor, dim=1).square() / factor.shape[1]
    return F.normalize(energy.flatten(1), dim=1)


def factor_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of two unit factors, in fp32.

    Args:
        student: the translator's output, ``(B, C_s, H_s, W_s)``.
        teacher: the paraphraser's code, ``(B, C_t, H_t, W_t)``; receives no gradient. The
            larger of the two is average-pooled to the smaller.

    Returns:
        A scalar.
    """
    with torch.autocast(student.device.type, enabled=False):
        s, t = pool_to_smaller(student.float(), teacher.detach().float())
        return F.l1_loss(unit_factor(s), unit_factor(t))


@register_method(
    "ft", title="FT", paper="Kim et al., NeurIPS 2018", gamma=1.0, beta=200.0, two_stage=True
)
class FactorTransfer(Method):
    """The student's translator learns the code that a paraphraser found for the teacher.

    First stage: the paraphraser P, an autoencoder of the teacher's last map F_t, minimises
    the mean of (P(F_t) − F_t)². Then, with f(x) the mean over channels of x², flattened and
    of unit length, T the translator of the student's last map and E the paraphraser's
    encoder, frozen::

        L = mean over B, H·W of abs(f(T(F_s)) − f(E(F_t)))

    Paraphrasing Complex Network: Network Compression via Factor Transfer, with p = 1; f,
    which reduces a factor to one value a position, is CRD's.

    The paraphraser never receives a gradient from :meth:`forward`, so an optimiser that
    holds its parameters leaves them alone as long as their ``.grad`` is None.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        factor_ratio: the code's channels as a share k of the teacher's.
        slope: of the leaky ReLUs.

    Raises:
        UserError: ``factor_ratio`` leaves no channel.
    """

    def __init__(
        self, setup: Setup, *, factor_ratio: Positive = 0.5, slope: Fraction = 0.1
    ) -> None:
        super().__init__(setup)
        c_s, c_t = setup.student.stages[-1][0], setup.teacher.stages[-1][0]
        factors = int(c_t * factor_ratio)
        if factors < 1:
            raise UserError(
                f"ft: factor_ratio {factor_ratio} of {c_t} channels leaves none; raise it"
            )
        self.paraphraser = Paraphraser(c_t, factors, slope)
        self.translator = _layers(nn.Conv2d, c_s, c_s, factors, factors, slope=slope, norm=True)

    @property
    def first_stage(self) -> FirstStage:
        """The paraphraser alone learns to reconstruct the teacher's map."""
        return FirstStage(trains=("method",))

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The paraphraser's mean squared reconstruction error, a scalar."""
        target = teacher.stages[-1].detach()
        reconstruction = self.paraphraser(target)
        with torch.autocast(target.device.type, enabled=False):
            return F.mse_loss(reconstruction.float(), target.float())

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The factors' difference on the last stage, a scalar."""
        # The paraphraser is frozen from here on; it has no batch norm or dropout, so that
        # its mode does not matter.
        with torch.no_grad():
            factor = self.paraphraser.encoder(teacher.stages[-1])
        return factor_loss(self.translator(student.stages[-1]), factor)


__all__ = ["FactorTransfer", "Paraphraser", "factor_loss", "unit_factor"]
