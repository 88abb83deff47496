"""Plans of optimal transport between the embeddings of one batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


@torch.no_grad()
def ipot_plan(cost: Tensor, beta: float, iterations: int) -> Tensor:
    """Optimal transport plan between uniform marginals by the inexact proximal point method.

    Xie et al., "A Fast Proximal Point Method for Computing Exact Wasserstein Distance" (UAI
    2019), algorithm 1 with one inner iteration: each step adds β times the Kullback-Leibler
    divergence from the step before to ⟨P, cost⟩. Unlike Sinkhorn's, its limit is the transport
    without regularisation, whatever β is. Always in at least float32; no gradient.

    Args:
        cost: ``(n, m)``, finite, from 0 to at most 60 β, beyond which float32 underflows.
        beta: β > 0, the inverse of the step's length, in units of the cost.
        iterations: proximal steps. Columns are exact after each, rows converge.

    Returns:
        The plan, ``(n, m)``, summing to 1.
    """
    with torch.autocast(cost.device.type, enabled=False):
        kernel = (cost.to(torch.promote_types(cost.dtype, torch.float32)) / -beta).exp_()
        n, m = kernel.shape
        plan, column = torch.ones_like(kernel), kernel.new_full((m,), 1 / m)
        for _ in range(iterations):
            plan = kernel * plan
            row = (plan @ column).mul_(n).reciprocal_()
            column = (row @ plan).mul_(m).reciprocal_()
            plan = plan.mul_(row[:, None]).mul_(column)
        return plan
