"""Statistics over seeds: intervals, paired tests, verdicts on published numbers.

The rules and their error rates are in ``docs/statistics.md``. scipy is imported where it is
needed: a plain table needs none of it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: the confidence of intervals; one minus it is the level of tests
CONFIDENCE = 0.95
#: how far from a published mean, in points, still counts as the same
MARGIN = 0.5
#: where looking for the seeds that would decide a verdict ends
MOST_SEEDS = 100
#: a spread below this is rounding, not spread
_NOTHING = 1e-9

Kind = Literal["reproduced", "above", "below", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval, both ends in the unit of the values."""

    low: float
    high: float


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of a mean.

    Args:
        values: one a seed.
        confidence: such as 0.95.

    Returns:
        None below two values, and where all are equal: a spread of 0 over a few seeds is no
        estimate of their spread.
    """
    if len(values) < 2:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values))
    return _around(statistics.fmean(values), error, len(values) - 1, confidence)


@dataclass(frozen=True)
class Difference:
    """A method minus its baseline over the seeds that both have.

    Attributes:
        seeds: the common seeds.
        values: one difference a seed, in points.
        interval: of the mean difference; None as for :func:`interval`.
        p: two-sided, of the paired t test; None where there is no interval.
        adjusted: ``p`` corrected for all comparisons of the pair (see :func:`holm`).
        confidence: of the interval; a difference counts where ``adjusted`` is below 1 minus it.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    interval: Interval | None
    p: float | None
    adjusted: float | None = None
    confidence: float = CONFIDENCE

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the differences, None below two seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def significant(self) -> bool:
        return self.adjusted is not None and self.adjusted < 1 - self.confidence

    @property
    def mark(self) -> str:
        """† where the method is above its baseline, ‡ where it is below, else nothing."""
        if not self.significant:
            return ""
        return "†" if self.mean > 0 else "‡"


def paired(
    method: Mapping[int, float], baseline: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Compare two methods over the seeds that both have.

    Runs of one seed start from the same weights and see the same batches, so their scores rise
    and fall together: the difference is taken within each seed.

    Args:
        method, baseline: scores by seed.
        confidence: of the interval.

    Returns:
        None without a common seed.
    """
    seeds = tuple(sorted(method.keys() & baseline.keys()))
    if not seeds:
        return None
    values = tuple(method[seed] - baseline[seed] for seed in seeds)
    found = interval(values, confidence)
    p = None
    if found is not None:
        from scipy import stats

        p = float(stats.ttest_rel([method[s] for s in seeds], [baseline[s] for s in seeds]).pvalue)
    return Difference(seeds, values, found, p, confidence=confidence)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's step-down method, in the order given.

    At any level, rejecting what is below it makes a single false rejection among all with at
    most that probability, however the tests depend on each other (Holm, 1979).
    """
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = highest
    return adjusted


@dataclass(frozen=True)
class Verdict:
    """Our seeds of a cell against its published number.

    Attributes:
        kind: ``reproduced``: the interval of the difference lies within the margin;
            ``above``, ``below``: it lies on one side of 0 and not within the margin;
            ``undecided``: neither, or there is no interval.
        difference: our mean minus the published one, in points.
        interval: of the difference; None where neither side has a deviation.
        needed: further seeds after which the present estimates would decide, None where it is
            decided, where nothing can be estimated, or where :data:`MOST_SEEDS` would not do.
        borrowed: whose deviation is unknown, so that the other's stands in for it.
        teacher: our teacher's score minus the published teacher's, in points; None where
            either is unknown.
    """

    kind: Kind
    difference: float
    interval: Interval | None
    needed: int | None = None
    borrowed: Literal["ours", "published"] | None = None
    teacher: float | None = None

    def __str__(self) -> str:
        """In words, with the teacher's part: ``reproduced; teacher +0.40 above published``."""
        text: str = self.kind
        if self.kind == "undecided":
            text += f", {self._missing()}"
        if self.teacher is None:
            return f"{text}; teacher not compared"
        if round(self.teacher, 2) == 0:
            return f"{text}; teacher as published"
        side = "above" if self.teacher > 0 else "below"
        return f"{text}; teacher {abs(self.teacher):.2f} {side} published"

    def _missing(self) -> str:
        if self.needed is not None:
            return f"about {self.needed} more seed{'s' * (self.needed > 1)} needed"
        if self.interval is None:
            return "no deviation is known, at least 2 seeds needed"
        return f"{MOST_SEEDS} seeds would not do"


def verdict(
    values: Sequence[float],
    mean: float,
    std: float | None,
    seeds: int,
    *,
    margin: float = MARGIN,
    confidence: float = CONFIDENCE,
    teacher: float | None = None,
) -> Verdict:
    """Judge our seeds against a published number.

    The interval is Welch's, of the difference of two means. Where one side's deviation is
    unknown (not printed, a single seed, or all seeds equal), the other's stands in for it.

    Args:
        values: our scores, at least one.
        mean, std: the published number; ``std`` None where none was printed.
        seeds: how many seeds the published mean is of.
        margin: see :data:`MARGIN`.
        confidence: of the interval.
        teacher: kept in the verdict.
    """
    difference = statistics.fmean(values) - mean
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    ours = spread if spread > _NOTHING else None
    borrowed: Literal["ours", "published"] | None = None
    if ours is None or std is None:
        borrowed = "ours" if ours is None else "published"
        if ours is None and std is None:
            return Verdict("undecided", difference, None, None, None, teacher)

    def between(count: int) -> Interval | None:
        return _around(difference, *_welch(ours, count, std, seeds), confidence)

    found = between(len(values))
    kind = _kind(found, margin)
    needed = None
    if kind == "undecided":
        more = range(len(values) + 1, MOST_SEEDS + 1)
        total = next((n for n in more if _kind(between(n), margin) != "undecided"), None)
        needed = None if total is None else total - len(values)
    return Verdict(kind, difference, found, needed, borrowed, teacher)


def _kind(found: Interval | None, margin: float) -> Kind:
    if found is None:
        return "undecided"
    if -margin <= found.low and found.high <= margin:
        return "reproduced"
    if found.low > 0:
        return "above"
    return "below" if found.high < 0 else "undecided"


def _welch(ours: float | None, n: int, theirs: float | None, m: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of the difference of two means.

    Args:
        ours, theirs: the deviations, one of which may be unknown.
        n, m: how many seeds each mean is of.
    """
    if ours is not None and theirs is not None:
        a, b = ours**2 / n, theirs**2 / m
        return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (m - 1))
    known, freedom = (theirs, m - 1) if ours is None else (ours, n - 1)
    assert known is not None
    return known * math.sqrt(1 / n + 1 / m), freedom


def _around(centre: float, error: float, freedom: float, confidence: float) -> Interval | None:
    if error < _NOTHING:
        return None
    from scipy import special  # the same quantile as scipy.stats', which is slow to import

    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    return Interval(centre - half, centre + half)
