"""Which images a batch is contrasted with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wcordbench.errors import UserError


class Negatives(NamedTuple):
    """Negatives of a whole batch.

    Attributes:
        columns: images that at least one row may use, ``(W,)`` int64.
        counts: how often row b uses image ``columns[w]``, ``(B, W)`` float32; every row
            sums to the number of negatives. As drawn, the transpose of a contiguous tensor:
            products with bank rows are quicker that way round.
    """

    columns: Tensor
    counts: Tensor


class Distinct(Negatives):
    """Negatives of which no row uses one twice: every count is 0 or 1."""


class NegativeSampler(nn.Module):
    """Draws images of other classes for every image of a batch.

    CRD's protocol: k images of the other classes, uniformly without replacement, or with
    replacement for an image whose other classes hold fewer than k images.

    Each row's draw has exactly that distribution. Rows of one batch are dependent, however:
    they share one fresh random permutation of the data set, of which every row takes the
    first k images that are not of its own class. Those are a uniform k-subset of the row's
    other classes, because a uniform permutation restricted to a subset is uniform. The
    expected loss and gradient are those of independent rows, while the batch needs only
    about k bank rows in all, so that scores are one plain matrix product. Draws with
    replacement are shared likewise, between rows with equally many candidates. Draws of
    different batches are independent.

    Args:
        labels: class of every image of the data set, ``(N,)`` integers.
        negatives: k.

    Raises:
        UserError: the data has a single class, or k is not positive.
    """

    labels: Tensor
    rank: Tensor
    end: Tensor
    size: Tensor
    others: Tensor
    group: Tensor

    def __init__(self, labels: Tensor, negatives: int) -> None:
        super().__init__()
        if negatives < 1:
            raise UserError(f"negatives is {negatives}; it must be at least 1")
        labels = labels.detach().reshape(-1).long()
        size = torch.bincount(labels)
        if int((size > 0).sum()) < 2:
            raise UserError(
                "the training images are all of one class, so there are no negatives to"
                " contrast with; use data with at least two classes, or another method"
            )
        self.negatives = negatives
        self.count = labels.numel()
        self.largest = int(size.max())
        #: no class, some class, every class has fewer than k images outside it
        self._some_short = negatives > self.count - self.largest
        self._all_short = negatives > self.count - int(size[size > 0].min())
        order = torch.argsort(labels, stable=True)
        # The data set is known to whoever builds the method: not part of the state.
        self.register_buffer("labels", labels.int(), persistent=False)
        self.register_buffer("rank", torch.argsort(order), persistent=False)
        self.register_buffer("end", size.cumsum(0), persistent=False)
        self.register_buffer("size", size, persistent=False)
        # How many images are outside a class: classes that draw with replacement from as many
        # share their draws. All of them are drawn in every batch, whatever it holds, so that
        # no shape depends on it.
        short = (self.count - size).clamp(max=negatives)
        others, group = torch.unique(short, return_inverse=True)
        self.register_buffer("others", others, persistent=False)
        self.register_buffer("group", group, persistent=False)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Negatives:
        """Draw for the images ``indices``, ``(B,)`` int64, on the generator's device."""
        own = self.labels[indices]
        if self._all_short:
            columns = torch.arange(self.count, device=indices.device)
            return Negatives(columns, self._with_replacement(own, columns, generator))
        columns = torch.randperm(self.count, generator=generator, device=indices.device)
        # Among k + (size of a class) images at least k are not of that class.
        columns = columns[: self.negatives + self.largest]
        counts = self._first_others(own, columns)
        if self._some_short:
            short = self.count - self.size[own] < self.negatives
            repeated = self._with_replacement(own, columns, generator)
            return Negatives(columns, torch.where(short[:, None], repeated, counts))
        return Distinct(columns, counts)

    def _first_others(self, own: Tensor, columns: Tensor) -> Tensor:
        """Mark each row's first k columns of another class, ``(B, W)``."""
        head, tail = columns[: self.negatives], columns[self.negatives :]
        counts = torch.empty(len(columns), len(own), device=own.device)
        # Compared as floats because that writes floats without a boolean in between.
        torch.ne(self.labels[columns].float()[:, None], own.float(), out=counts)
        # Counting along the short tail only: a cumulative sum over all columns is slow.
        missing = self.negatives - counts[: len(head)].sum(0)
        other = self.labels[tail][:, None] != own
        counts[len(head) :] = other & (other.cumsum(0) <= missing)
        return counts.T

    def _with_replacement(self, own: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
        """How often k draws with replacement hit each column, ``(B, N)``."""
        size, end = self.size[own, None], self.end[own, None]
        # 62 random bits: the remainder's deviation from uniform is below 1e-12.
        draws = torch.randint(
            1 << 62, (len(self.others), self.negatives), generator=generator, device=own.device
        )
        draws = draws.remainder_(self.others[:, None])
        tally = torch.zeros(len(self.others), self.count, device=own.device)
        tally.scatter_add_(1, draws, torch.ones_like(draws, dtype=tally.dtype))
        # Candidate number r of a row is the r-th image by class, its own class left out.
        rank = self.rank[columns]
        after = rank >= end
        is_own = ~after & (rank >= end - size)
        candidate = torch.where(is_own, 0, rank - size * after)
        return tally[self.group[own]].gather(1, candidate).masked_fill_(is_own, 0.0)
