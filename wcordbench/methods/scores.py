"""Sums over the scores of a batch against bank rows, with their gradients.

One block of bank rows after another is multiplied with the whole batch, and the gradient is
computed along with the value: a block stays in the processor's cache, and nothing of size
``(W, B)`` waits for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: Rows are folded into products until at most this many are left.
FEW = 128
#: The largest 1 − product whose logarithm is still exact to a few units of the last place.
LARGEST = 0.995


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype for products of ``x``: autocast's where that is on, else its own."""
    kind = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def multiply(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """A matrix product in the operands' dtype.

    A CPU without bfloat16 units keeps the roundings of operands and product and computes in
    float32: torch's own kernels are many times slower there.
    """
    emulated = left.device.type == "cpu" and left.dtype in (torch.bfloat16, torch.float16)
    if emulated and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        product = left.float() @ right.float()
        return product.to(left.dtype) if out is None else out.copy_(product)
    return torch.mm(left, right) if out is None else torch.mm(left, right, out=out)


class Block(NamedTuple):
    """One block of bank rows, ``w`` of them; its tensors are written over by the next.

    Attributes:
        scores: anchors' scores minus the offset, ``(w, B)``.
        used: how often each anchor uses each row, ``(w, B)``.
        rows: ``(w, D)``, in the dtype of the products.
        low: as large, in the dtype of the products; ``scores`` itself where that is the same.
    """

    scores: Tensor
    used: Tensor
    rows: Tensor
    low: Tensor

    def gradient(self, weights: Tensor) -> Tensor:
        """weightsᵀ · rows, ``(B, D)``, for weights ``(w, B)``; writes over ``low``."""
        if weights.dtype != self.low.dtype:
            weights = self.low.copy_(weights)
        return multiply(weights.T, self.rows)


def blocks(
    anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor, offset: Tensor
) -> Iterator[Block]:
    """Scores of a batch against bank rows, block by block.

    Memory is taken once for all blocks: taking and returning it for each costs page faults,
    which cost a CPU as much as the arithmetic.

    Args:
        anchor: ``(B, D)``; scores have its dtype.
        bank: ``(N, D)``; products are computed in its dtype.
        columns: the bank rows to look at, ``(W,)``.
        counts: how often each anchor uses each of them, ``(B, W)``.
        offset: a scalar.
    """
    if anchor.device.type == "cpu":
        size = 2048 if bank.dtype == anchor.dtype else 4096  # by the second-level cache
    else:
        size = max(1024, (1 << 24) // len(anchor))
    size = min(size, len(columns))
    right = anchor.to(bank.dtype).T
    gathered = bank.new_empty(size, bank.shape[1])
    scratch = anchor.new_empty(size, len(anchor))
    products = scratch if bank.dtype == anchor.dtype else bank.new_empty(scratch.shape)
    for some, used in zip(torch.split(columns, size), torch.split(counts.T, size), strict=True):
        w = len(some)
        scores, low, rows = scratch[:w], products[:w], gathered[:w]
        # Advanced indexing is several times slower than index_select on a CPU.
        torch.index_select(bank, 0, some, out=rows)
        if bank.dtype == anchor.dtype:
            torch.addmm(-offset.reshape(1), rows, right, out=scores)
        else:
            scores.copy_(multiply(rows, right, out=low)).sub_(offset)
        yield Block(scores, used.to(anchor.dtype), rows, low)


class NoiseTerm(torch.autograd.Function):
    """Σ counts · softplus(anchor · bank[columns]ᵀ − offset), differentiable by the anchor.

    Arguments as for :func:`blocks`, and ``once``: no count is above 1.

    softplus costs a CPU more than all the rest, because its log1p is not vectorised. With
    q = σ(odds), which the gradient needs anyway, it is −log(1 − q), and a sum of logarithms is
    the logarithm of a product. The product is held as one minus itself,
    1 − (1 − a)(1 − b) = a + b(1 − a), so that a q far below the spacing of numbers around 1
    keeps all of its digits. Where it would lose others, softplus is computed after all.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor, offset: Tensor,
        once: bool,
    ) -> Tensor:  # fmt: skip
        total, gradient = anchor.new_zeros(()), torch.zeros_like(anchor)
        product, one = None, anchor.new_ones(())
        for block in blocks(anchor, bank, columns, counts, offset):
            if not once:
                total += (F.softplus(block.scores) * block.used).sum()
            chance = block.scores.sigmoid_().mul_(block.used)
            if once:
                if product is None:
                    product = torch.zeros_like(chance)
                product[: len(chance)].lerp_(one.expand_as(chance), chance)
            if ctx.needs_input_grad[0]:
                gradient += block.gradient(chance)
        if product is not None:
            value = _log_of_product(product)
            total = _softplus(anchor, bank, columns, counts, offset) if value is None else -value
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None, None


class PosteriorTerm(torch.autograd.Function):
    """Σ counts · σ(anchor · bank[columns]ᵀ − offset), differentiable by the anchor.

    Arguments as for :func:`blocks`.
    """

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor, offset: Tensor
    ) -> Tensor:
        total, gradient = anchor.new_zeros(()), torch.zeros_like(anchor)
        for block in blocks(anchor, bank, columns, counts, offset):
            chance = block.scores.sigmoid_()
            total += (chance * block.used).sum()
            if ctx.needs_input_grad[0]:
                slope = chance.addcmul_(chance, chance, value=-1).mul_(block.used)
                gradient += block.gradient(slope)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None


class LogSumExp(torch.autograd.Function):
    """log Σ counts · exp(anchor · bank[columns]ᵀ) of each anchor, ``(B,)``; differentiable by it.

    Sums are kept relative to the largest score so far: no temperature overflows. Arguments as
    for :func:`blocks`; every row of ``counts`` has one that is not 0.
    """

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor) -> Tensor:
        largest = anchor.new_full((len(anchor),), -math.inf)
        total, gradient = torch.zeros_like(largest), torch.zeros_like(anchor)
        for block in blocks(anchor, bank, columns, counts, anchor.new_zeros(())):
            # One that no row uses does not count, however large.
            scores = block.scores.masked_fill_(block.used == 0, -math.inf)
            now = torch.maximum(largest, scores.amax(0))
            # A block of nothing but the own class leaves it at minus infinity.
            base = now.nan_to_num(neginf=0.0)
            kept = (largest - base).exp()
            weights = scores.sub_(base).exp_().mul_(block.used)
            total = total * kept + weights.sum(0)
            if ctx.needs_input_grad[0]:
                gradient = gradient * kept[:, None] + block.gradient(weights)
            largest = now
        ctx.save_for_backward(gradient / total[:, None])
        return largest + total.log()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None], None, None, None


def _softplus(*inputs: Tensor) -> Tensor:
    """Σ counts · softplus(scores − offset), for arguments of :func:`blocks`."""
    sums = [F.softplus(block.scores).mul_(block.used).sum() for block in blocks(*inputs)]
    return torch.stack(sums).sum()


def _log_of_product(q: Tensor) -> Tensor | None:
    """Σ log(1 − q) for q ``(w, B)`` from 0 to 1; None where that would lose digits.

    Asks a tensor for its value: for a CPU only.
    """
    one = q.new_ones(())
    product = q
    while len(product) > FEW:
        half = len(product) // 2
        first, second = product[:half], product[half : 2 * half]
        folded = torch.lerp(first, one.expand_as(first), second)
        if len(product) % 2:
            folded[0].lerp_(one.expand_as(folded[0]), product[-1])
        product = folded
    if product.amax() > LARGEST:
        return None
    return torch.log1p(-product).sum()
