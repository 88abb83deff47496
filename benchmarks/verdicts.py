"""Error rates of intervals and verdicts by simulation: python benchmarks/verdicts.py

Draws seeds of ours and of a published table from normal distributions of known means, and counts
how often what wcordbench says of them is false. docs/statistics.md explains the rule.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from common import write

from wcordbench.reporting.published import SEEDS, numbers
from wcordbench.results.statistics import CONFIDENCE, MARGIN, interval, paired, verdict

REPEATS = 2000
#: the median of the published deviations, in points
SPREAD = float(np.median([n.std for n in numbers().values() if n.std is not None]))


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def intervals(rng: np.random.Generator) -> list[dict[str, Any]]:
    """How often the interval holds the mean, and how often two equal methods are told apart."""
    rows = []
    for seeds in (2, 3, 5, 10):
        samples = rng.normal(70, SPREAD, (4 * REPEATS, seeds)).tolist()
        found = [interval(sample) for sample in samples]
        held = np.mean([f is not None and f.low <= 70 <= f.high for f in found])
        widths = [f.high - f.low for f in found if f is not None]
        ps = []
        for _ in range(REPEATS):
            common = rng.normal(0, SPREAD, seeds)  # what a seed's data order does to both
            ours, theirs = (70 + common + rng.normal(0, SPREAD, seeds) for _ in range(2))
            both = (dict(enumerate(values.tolist())) for values in (ours, theirs))
            difference = paired(*both)
            assert difference is not None and difference.p is not None
            ps.append(difference.p)
        rows.append(
            {
                "seeds": seeds,
                "interval holds the mean": percent(held),
                "median half width / deviation": f"{np.median(widths) / 2 / SPREAD:.2f}",
                "paired test rejects equal methods": percent(np.mean(np.array(ps) < 0.05)),
            }
        )
    return rows


def verdicts(rng: np.random.Generator) -> list[dict[str, Any]]:
    """What is said for each true difference, how often it is false, and what more seeds do."""
    cases = [(seeds, SPREAD, SPREAD, True) for seeds in (1, 2, 3, 5, 10)]
    cases += [(3, 2 * SPREAD, SPREAD, True), (5, 2 * SPREAD, SPREAD, True)]
    cases += [(1, 2 * SPREAD, SPREAD, True)]
    cases += [
        (3, SPREAD, SPREAD, False),
        (5, SPREAD, SPREAD, False),
        (5, SPREAD, 2 * SPREAD, False),
    ]
    return [
        simulated(rng, *case, difference)
        for case in cases
        for difference in (0.0, MARGIN / 2, MARGIN, 2 * MARGIN)
    ]


def simulated(
    rng: np.random.Generator,
    seeds: int,
    ours: float,
    theirs: float,
    printed: bool,
    difference: float,
) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    asked = decided = 0
    for _ in range(REPEATS):
        sample = rng.normal(70 + difference, ours, seeds)
        published = rng.normal(70, theirs, SEEDS)
        number = (published.mean(), published.std(ddof=1) if printed else None, SEEDS)
        found = verdict(sample.tolist(), *number)
        kinds[found.kind] += 1
        if found.needed is not None:
            more = np.append(sample, rng.normal(70 + difference, ours, found.needed))
            asked += 1
            decided += verdict(more.tolist(), *number).kind != "undecided"
    false = kinds["below"] if difference > 0 else kinds["below"] + kinds["above"]
    if difference >= MARGIN:
        false += kinds["reproduced"]
    return {
        "seeds": seeds,
        "deviation": f"{ours:.2f}",
        "published": f"{theirs:.2f}" if printed else f"{theirs:.2f}, not printed",
        "true difference": f"{difference:.2f}",
        **{
            kind: percent(kinds[kind] / REPEATS)
            for kind in ("reproduced", "above", "below", "undecided")
        },
        "false": percent(false / REPEATS),
        "decided by the seeds asked for": percent(decided / asked) if asked > 50 else "–",
    }


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    command = "By `python benchmarks/verdicts.py`, on:"
    write(
        "intervals",
        "Intervals and paired tests by simulation",
        intervals(rng),
        [
            f"{100 * CONFIDENCE:g}% intervals over {4 * REPEATS} samples of normal seeds, and the"
            f" paired t test at 5% over {REPEATS} pairs of equally good methods. {command}"
        ],
    )
    write(
        "verdicts",
        "Verdicts by simulation",
        verdicts(rng),
        [
            f"Each row: {REPEATS} pairs of our normal seeds and {SEEDS} published ones (deviation"
            f" {SPREAD:.2f} points is the median of the published), judged with margin {MARGIN} and"
            f" confidence {100 * CONFIDENCE:g}%. *False*: above or below with a true difference of"
            " 0 or of the other sign, reproduced with a true difference of the margin or more."
            " *Decided by the seeds asked for*: of the undecided ones that asked for more seeds,"
            f" those that were decided when they got them. {command}"
        ],
    )
