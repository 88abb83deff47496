"""Wasserstein contrastive representation distillation (Chen et al., 2021)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Setup
from wcordbench.methods.contrast import MemoryContrast, Negatives
from wcordbench.registry import register_method

#: Scalings by plain products reach exp(cost / ε); beyond this exponent float32 would overflow.
SAFE_EXPONENT = 60.0


@torch.no_grad()
def sinkhorn_plan(
    cost: Tensor, epsilon: float, iterations: int, largest: float = math.inf
) -> Tensor:
    """Entropy-regularised optimal transport plan between uniform marginals.

    Approximates the P with marginals 1/n and 1/m that minimises ⟨P, cost⟩ − ε · entropy(P),
    by Sinkhorn's iterations (Cuturi, 2013): on the logarithms of the scalings, so that no ε
    under- or overflows, or on the scalings themselves where ``largest`` says that ε is large
    enough, which is several times quicker. Always in at least float32; no gradient.

    Args:
        cost: ``(n, m)``, finite.
        epsilon: ε > 0, in units of the cost.
        iterations: pairs of column and row updates. Rows are exact after each pair,
            columns converge.
        largest: the costs are known to be from 0 to this.

    Returns:
        The plan, ``(n, m)``, summing to 1.
    """
    with torch.autocast(cost.device.type, enabled=False):
        kernel = cost.to(torch.promote_types(cost.dtype, torch.float32)) / -epsilon
        n, m = kernel.shape
        if largest / epsilon <= SAFE_EXPONENT:
            kernel = kernel.exp_()
            by_column = kernel.T.contiguous()
            row, column = kernel.new_ones(n), kernel.new_ones(m)
            for _ in range(iterations):
                column = (by_column @ row).mul_(m).reciprocal_()
                row = (kernel @ column).mul_(n).reciprocal_()
            return kernel.mul_(row[:, None]).mul_(column)
        by_column = kernel.T.contiguous()
        rows, columns = kernel.new_zeros(n), kernel.new_zeros(m)
        for _ in range(iterations):
            columns = -torch.logsumexp(by_column + rows, dim=1) - math.log(m)
            rows = -torch.logsumexp(kernel + columns, dim=1) - math.log(n)
        return (kernel + rows[:, None] + columns).exp()


@register_method("wcord", title="WCoRD", paper="Chen et al., CVPR 2021", gamma=1.0, beta=1.0)
class WCoRD(MemoryContrast):
    """Global (dual) and local (primal) Wasserstein contrast of the pooled features.

    Chen et al., "Wasserstein Contrastive Representation Distillation" (CVPR 2021),
    Algorithm 1 of the supplement: −λ1 · GCKT + λ2 · LCKT.

    **GCKT** (equation 11) is maximised over the student and the critic φ: one linear map for
    each network, spectrally normalised, followed by L2 normalisation. With ``critic="nce"``
    it is CRD's bound with that critic (minus CRD's loss). With ``critic="dual"`` it is the
    difference of the mean of g = ⟨e_T, e_S⟩ / τ over congruent and over incongruent pairs,
    the mean of both sides: one embedding is of this batch, the other from the other network's
    memory bank — the same image's entry or entries of other classes, as in CRD. The
    congruent partner comes from the bank, too: with both embeddings of this batch, the banks'
    random first entries do not hold the embeddings apart while congruent ones attract each
    other, and all collapse to one point, where the difference and its gradient vanish.

    **LCKT** (equation 13) is the transport cost ⟨P*, C⟩ within the batch, C the cosine
    distance of the two networks' embeddings and P* from :func:`sinkhorn_plan`. Only the
    student network is trained by it: φ, the teacher and P* are constants (for P* by the
    envelope theorem).

    Args:
        setup: shapes and training labels.
        lambda1: weight of GCKT; at 0 it is not computed and φ keeps its initial value.
        lambda2: weight of LCKT; at 0 it is not computed.
        critic: form of GCKT.
        feature_dim: width of both embeddings.
        negatives: negatives drawn for each image.
        temperature: τ, divides the scores.
        momentum: share of the old entry in an updated bank entry.
        sinkhorn_epsilon: entropic regularisation, in units of the cosine distance (0 to 2).
        sinkhorn_iterations: pairs of Sinkhorn updates.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        lambda1: float = 0.8,
        lambda2: float = 0.05,
        critic: Literal["nce", "dual"] = "nce",
        feature_dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_iterations: int = 50,
    ) -> None:
        super().__init__(
            setup,
            feature_dim=feature_dim,
            negatives=negatives,
            temperature=temperature,
            momentum=momentum,
            spectral=True,
        )
        if critic not in ("nce", "dual"):
            raise UserError(f"critic is {critic!r}; it must be 'nce' or 'dual'")
        if sinkhorn_epsilon <= 0:
            raise UserError(f"sinkhorn_epsilon is {sinkhorn_epsilon}; it must be positive")
        if sinkhorn_iterations < 1:
            raise UserError(f"sinkhorn_iterations is {sinkhorn_iterations}; it must be positive")
        self.lambda1 = lambda1
        self.lambda2 = lambda2
        self.critic = critic
        self.sinkhorn_epsilon = sinkhorn_epsilon
        self.sinkhorn_iterations = sinkhorn_iterations

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
                loss = loss + self.lambda2 * self.lckt(frozen_s, embed_t.detach())
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
        # g is linear in the bank entry: a mean score is the score of a mean entry.
        with torch.autocast(student.device.type, enabled=False):
            weights = drawn.counts.to(student.dtype) / self.sampler.negatives
            difference = student.new_zeros(())
            for anchor, bank in ((student, self.bank_teacher), (teacher, self.bank_student)):
                incongruent = weights @ bank.index_select(0, drawn.columns)
                difference = difference + (anchor * (bank[indices] - incongruent)).sum(1).mean()
            return difference / (2 * self.temperature)

    def lckt(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Local term, to be minimised (equation 13); embeddings ``(B, D)`` of unit length."""
        cost = 1 - teacher @ student.T
        # Rounding may leave a cost a little outside of 0 to 2.
        plan = sinkhorn_plan(cost, self.sinkhorn_epsilon, self.sinkhorn_iterations, largest=2.01)
        return (plan * cost).sum()
