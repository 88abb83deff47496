"""Wasserstein contrastive representation distillation (Chen et al., 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Setup
from wcordbench.methods.contrast import MemoryContrast, Negatives
from wcordbench.methods.scores import LogSumExp, PosteriorTerm, product_dtype
from wcordbench.methods.transport import ipot_plan, sinkhorn_plan
from wcordbench.options import (
    Annotated,
    Ge,
    Interval,
    NonNegative,
    Positive,
    PositiveInt,
    Temperature,
)
from wcordbench.registry import register_method

__all__ = ["WCoRD", "ipot_plan", "sinkhorn_plan"]

#: cosine distances are from 0 to 2; rounding may leave one a little outside
LARGEST = 2.01
CRITICS = ("nce", "dual", "infonce", "posterior")


@register_method(
    "wcord",
    title="WCoRD",
    paper="Chen et al., CVPR 2021",
    gamma=1.0,
    beta=1.0,
    added=["local_on", "local_trains_critic", "transport", "ipot_beta", "ipot_iterations"],
)
class WCoRD(MemoryContrast):
    """Global (dual) and local (primal) Wasserstein contrast of the pooled features.

    Chen et al., "Wasserstein Contrastive Representation Distillation" (CVPR 2021),
    Algorithm 1 of the supplement: −λ1 · GCKT + λ2 · LCKT. The paper leaves open how its two
    equations are to be read; every reading is an option, see docs/wcord.md.

    **GCKT** (equation 11) is maximised over the student and the critic φ: one linear map for
    each network, spectrally normalised, followed by L2 normalisation. With embeddings e of
    this batch, entries b of the other network's memory bank, scores s = ⟨e, b⟩ / τ, the k
    incongruent entries of other classes that CRD draws, and N training images, ``critic`` is

    - ``"nce"``: CRD's bound with that critic (minus CRD's loss), E₊[log g] + k·E₋[log(1 − g)]
      with g = p / (p + k/N), p = exp(s) / Z;
    - ``"posterior"``: a difference of that bounded critic's means, E₊[g] − k·E₋[g];
    - ``"infonce"``: the Donsker–Varadhan form, E₊[s] − log E₋[exp(s)]; Wasserstein predictive
      coding (Ozair et al., NeurIPS 2019) has the positive in the sum as well;
    - ``"dual"``: the difference of the scores' means, E₊[s] − E₋[s].

    Both sides, student anchors with the teacher's bank and vice versa, are summed; for
    ``"dual"`` their mean is taken. The congruent partner comes from the bank, too: with both
    embeddings of this batch, the banks' random first entries do not hold the embeddings apart
    while congruent ones attract each other, and all collapse to one point, where the dual
    difference and its gradient vanish.

    **What is 1-Lipschitz**: the linear maps, in both modes and after every step. L2
    normalisation is not: at a pre-image of length r it is 1/r-Lipschitz (its gradient is cut
    at r = 1e-6), which the spectral norm does not bound. The score is 1/τ-Lipschitz in each
    embedding. So s is 1/(τ·r)-Lipschitz in the pooled features: bounded scores at the usual τ
    are what makes the contrast learn, and equation 11's duality does not hold strictly. L2
    normalisation cancels the spectral norm but for the bias: ``"nce"`` is close to CRD.

    **LCKT** (equation 13) is the transport cost ⟨P*, C⟩ within the batch, C the cosine distance
    of teacher and student and P* a plan between uniform marginals, a constant in the backward
    pass: for the entropic plan the gradient of the regularised cost (envelope theorem), not of
    the value returned. The teacher is constant. φ is too, as Algorithm 1 minimises over θ_S
    alone, unless ``local_trains_critic``.

    Args:
        setup: shapes and training labels.
        lambda1: weight of GCKT; at 0 it is not computed and φ keeps its initial value.
        lambda2: weight of LCKT; at 0 it is not computed.
        critic: form of GCKT.
        feature_dim: width of both embeddings.
        negatives: k, negatives drawn for each image.
        temperature: τ, divides the scores.
        momentum: share of the old entry in an updated bank entry.
        sinkhorn_epsilon: entropic regularisation, in units of the cosine distance (0 to 2).
        sinkhorn_iterations: pairs of Sinkhorn updates.
        local_on: what LCKT compares: ``"embedding"``, φ's outputs, or ``"pooled"``, the
            networks' pooled features themselves, which must be of one width.
        local_trains_critic: minimise LCKT over φ, too; of embeddings only.
        transport: P* of LCKT: ``"sinkhorn"``, with entropy, or ``"ipot"``, without (proximal).
        ipot_beta: inverse length of a proximal step, in units of the cosine distance.
        ipot_iterations: proximal steps.

    Raises:
        UserError: an option is out of range, or does not fit another one or the networks.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        lambda1: NonNegative = 0.8,
        lambda2: NonNegative = 0.05,
        critic: Literal["nce", "dual", "infonce", "posterior"] = "nce",
        feature_dim: PositiveInt = 128,
        negatives: PositiveInt = 16384,
        temperature: Temperature = 0.07,
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        sinkhorn_epsilon: Positive = 0.05,
        sinkhorn_iterations: PositiveInt = 50,
        local_on: Literal["embedding", "pooled"] = "embedding",
        local_trains_critic: bool = False,
        transport: Literal["sinkhorn", "ipot"] = "sinkhorn",
        ipot_beta: Annotated[float, Ge(0.05)] = 0.5,
        ipot_iterations: PositiveInt = 50,
    ) -> None:
        super().__init__(
            setup,
            feature_dim=feature_dim,
            negatives=negatives,
            temperature=temperature,
            momentum=momentum,
            spectral=True,
        )
        for name, value, valid in (
            ("critic", critic, CRITICS),
            ("local_on", local_on, ("embedding", "pooled")),
            ("transport", transport, ("sinkhorn", "ipot")),
        ):
            if value not in valid:
                raise UserError(f"{name} is {value!r}; it must be one of {', '.join(valid)}")
        if sinkhorn_epsilon <= 0:
            raise UserError(f"sinkhorn_epsilon is {sinkhorn_epsilon}; it must be positive")
        if sinkhorn_iterations < 1:
            raise UserError(f"sinkhorn_iterations is {sinkhorn_iterations}; it must be positive")
        if ipot_beta < 0.05:
            raise UserError(
                f"ipot_beta is {ipot_beta}; it must be at least 0.05, or float32 underflows"
            )
        if ipot_iterations < 1:
            raise UserError(f"ipot_iterations is {ipot_iterations}; it must be positive")
        if local_on == "pooled":
            widths = setup.student.pooled, setup.teacher.pooled
            if widths[0] != widths[1]:
                raise UserError(
                    f"local_on is 'pooled', but the student's pooled features have {widths[0]}"
                    f" values and the teacher's {widths[1]}; use 'embedding' for this pair"
                )
            if local_trains_critic:
                raise UserError(
                    "local_trains_critic is true, but with local_on 'pooled' there is no critic in"
                    " the local term; leave one of them out"
                )
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.critic = critic
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.local_on = local_on
        self.local_trains_critic = local_trains_critic
        self.transport = transport
        self.ipot_beta = ipot_beta
        self.ipot_iterations = ipot_iterations

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """−λ1 · GCKT + λ2 · LCKT; updates the banks in training mode."""
        drawn = self.draw(batch.indices) if self.lambda1 else None
        return self._loss(student.pooled, teacher.pooled, batch.indices, drawn)

    def _loss(
        self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives | None
    ) -> Tensor:
        embed_s, frozen_s = self.embed_student.with_frozen(student)
        embed_t = self.embed_teacher(teacher)
        loss = embed_s.new_zeros(())
        if drawn is not None:
            loss = loss - self.lambda1 * self.gckt(embed_s, embed_t, indices, drawn)
            if self.training:
                self.update_banks(embed_s, embed_t, indices)
        if self.lambda2:
            with torch.autocast(student.device.type, enabled=False):
                if self.local_on == "pooled":
                    local = [
                        F.normalize(x.to(embed_s.dtype), eps=1e-6)
                        for x in (student, teacher.detach())
                    ]
                elif self.local_trains_critic:
                    local = [embed_s, embed_t]
                else:
                    local = [frozen_s, embed_t.detach()]
                loss = loss + self.lambda2 * self.lckt(*local)
        return loss

    def gckt(self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives) -> Tensor:
        """Global term, to be maximised (equation 11).

        Args:
            student, teacher: embeddings, ``(B, D)``.
            indices: the images' bank rows, ``(B,)``.
            drawn: their negatives.
        """
        if self.critic == "nce":
            return -self.nce(student, teacher, indices, drawn)
        dtype = product_dtype(student)
        with torch.autocast(student.device.type, enabled=False):
            if self.critic == "dual":
                return self._dual(student, teacher, indices, drawn)
            if self.critic == "infonce":
                return self._infonce(student, teacher, indices, drawn, dtype)
            return self._posterior(student, teacher, indices, drawn, dtype)

    def _sides(
        self, student: Tensor, teacher: Tensor, indices: Tensor
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Of each side the bank's name, anchors over τ ``(B, D)``, congruent scores ``(B,)``."""
        for anchor, name in ((student, "bank_teacher"), (teacher, "bank_student")):
            anchor = anchor / self.temperature
            yield name, anchor, (anchor * self.get_buffer(name)[indices]).sum(1)

    def _dual(self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives) -> Tensor:
        # g is linear in the bank entry: a mean score is the score of a mean entry.
        weights = drawn.counts.to(student.dtype) / self.sampler.negatives
        difference = student.new_zeros(())
        for name, anchor, congruent in self._sides(student, teacher, indices):
            mean = weights @ self.get_buffer(name).index_select(0, drawn.columns)
            difference = difference + (congruent - (anchor * mean).sum(1)).mean()
        return difference / 2

    def _infonce(
        self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        bound = student.new_zeros(())
        for name, anchor, congruent in self._sides(student, teacher, indices):
            against: Tensor = LogSumExp.apply(anchor, self.bank_in(name, dtype), *drawn)
            bound = bound + (congruent - against).mean() + math.log(self.sampler.negatives)
        return bound

    def _posterior(
        self, student: Tensor, teacher: Tensor, indices: Tensor, drawn: Negatives,
        dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        constants = self._constants(student, teacher, indices, drawn)
        mass = self.sampler.negatives / self.sampler.count
        difference = student.new_zeros(())
        sides = self._sides(student, teacher, indices)
        for z, (name, anchor, congruent) in zip(constants, sides, strict=True):
            offset = (z * mass).log()
            other: Tensor = PosteriorTerm.apply(anchor, self.bank_in(name, dtype), *drawn, offset)
            difference = difference + (congruent - offset).sigmoid().mean() - other / len(anchor)
        return difference

    def lckt(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Local term, to be minimised (equation 13); ``(B, D)`` of unit length."""
        cost = 1 - teacher @ student.T
        if self.transport == "ipot":
            plan = ipot_plan(cost, self.ipot_beta, self.ipot_iterations)
        else:
            plan = sinkhorn_plan(cost, self.sinkhorn_epsilon, self.sinkhorn_iterations, LARGEST)
        return (plan * cost).sum()
