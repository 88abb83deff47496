"""Negatives: the distribution of each row's draw, classes, counts, reproducibility."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from scipy import stats
from torch import Tensor

from wcordbench.errors import UserError
from wcordbench.methods.contrast import NegativeSampler
from wcordbench.methods.negatives import Distinct

#: p-values below this fail; seeds are fixed, so a pass stays a pass
LEVEL = 1e-3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(sampler: NegativeSampler, indices: Tensor, source: torch.Generator) -> Tensor:
    """How often each image of the data set is drawn, ``(B, N)``."""
    columns, counts = sampler.draw(indices, source)
    assert len(columns.unique()) == len(columns)
    full = torch.zeros(len(indices), sampler.count)
    return full.index_copy_(1, columns, counts)


SHUFFLE = torch.randperm(60, generator=generator())
LAYOUTS = {
    "balanced": torch.arange(60) % 6,
    "unbalanced": torch.tensor([0] * 40 + [1] * 12 + [3] * 8)[SHUFFLE],
    "two": torch.arange(60) % 2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 15, 20, 21, 30, 48, 50, 59, 200])
def test_counts_and_classes(layout: str, k: int) -> None:
    labels = LAYOUTS[layout]
    sampler = NegativeSampler(labels, k)
    indices = torch.arange(60)
    source = generator()
    for _ in range(5):
        drawn = dense(sampler, indices, source)
        assert (drawn.sum(1) == k).all()
        same_class = labels == labels[:, None]
        assert not drawn[same_class].any()
        enough = (~same_class).sum(1) >= k
        assert drawn[enough].amax().item() <= 1 if enough.any() else True


@pytest.mark.parametrize("row", [0, 1, 2])
def test_every_subset_is_equally_likely(row: int) -> None:
    """Without replacement, over all k-subsets, jointly for two steps in a row."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 2])
    sampler = NegativeSampler(labels, 2)
    others = [i for i in range(8) if labels[i] != labels[row]]
    subsets = list(combinations(others, 2))
    source, batch, seen = generator(1), torch.arange(3), []
    for _ in range(5000):
        columns, counts = sampler.draw(batch, source)
        seen.append(tuple(sorted(columns[counts[row] > 0].tolist())))
    one = Counter(seen)
    assert set(one) == set(subsets)
    assert stats.chisquare([one[s] for s in subsets]).pvalue > LEVEL
    pairs = Counter(zip(seen[::2], seen[1::2], strict=True))
    table = [pairs[a, b] for a in subsets for b in subsets]
    assert stats.chisquare(table).pvalue > LEVEL


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_replacement_is_uniform(layout: str) -> None:
    labels = LAYOUTS[layout]
    sampler = NegativeSampler(labels, 400)
    total, source = torch.zeros(60, 60), generator(2)
    for _ in range(40):
        total += dense(sampler, torch.arange(60), source)
    for row in range(0, 60, 7):
        hits = total[row][labels != labels[row]].double()
        assert stats.chisquare(hits.numpy()).pvalue > LEVEL


def test_some_classes_with_and_some_without_replacement() -> None:
    labels = LAYOUTS["unbalanced"]  # others: 20, 48, 52
    sampler = NegativeSampler(labels, 30)
    total, source = torch.zeros(60, 60), generator(3)
    for _ in range(1500):
        total += dense(sampler, torch.arange(60), source)
    for image_class, others in ((0, 20), (1, 48), (3, 52)):
        row = int((labels == image_class).nonzero()[0])
        hits = total[row][labels != image_class].double()
        statistic, _ = stats.chisquare(hits.numpy())
        # Hits of draws without replacement vary less, by the share that is not drawn.
        factor = 1.0 if others < 30 else (others - 1) / (others - 30)
        assert stats.chi2.sf(statistic * factor, others - 1) > LEVEL
        assert stats.chi2.cdf(statistic * factor, others - 1) > LEVEL


def test_draws_are_reproducible_and_differ_between_steps() -> None:
    sampler = NegativeSampler(torch.arange(100) % 10, 20)
    batch = torch.arange(8)
    first, again = generator(4), generator(4)
    a, b = dense(sampler, batch, first), dense(sampler, batch, first)
    assert torch.equal(a, dense(sampler, batch, again))
    assert not torch.equal(a, b)


def test_one_class_is_an_error() -> None:
    with pytest.raises(UserError, match="one class"):
        NegativeSampler(torch.full((10,), 3), 4)
    with pytest.raises(UserError, match="at least 1"):
        NegativeSampler(torch.arange(10), 0)


def test_state_dict_holds_nothing_of_the_data() -> None:
    assert not NegativeSampler(torch.arange(10) % 2, 4).state_dict()


@pytest.mark.parametrize(("k", "distinct"), [(20, True), (21, False), (50, False)])
def test_a_draw_says_whether_every_count_is_0_or_1(k: int, distinct: bool) -> None:
    """CRD's sum over negatives is computed in another way where it is."""
    sampler = NegativeSampler(LAYOUTS["unbalanced"], k)  # 20 images are not of the largest class
    drawn = sampler.draw(torch.arange(60), generator())
    assert isinstance(drawn, Distinct) is distinct
    assert bool(drawn.counts.max() <= 1) is distinct
