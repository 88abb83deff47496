"""Which reading of WCoRD is the default: python benchmarks/readings.py [--results DIR]

Applies the rule of docs/wcord.md to the runs of suites/wcord_readings.yaml.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import ROOT, write

from wcordbench.results.statistics import CONFIDENCE, Difference, holm, paired
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite

SUITE, BASELINE = "wcord_readings", "nce"


def whole(scores: dict[str, dict[int, float]], seeds: list[int]) -> dict[str, dict[int, float]]:
    """The readings that have all seeds: a row with a failed run does not count.

    Args:
        scores: by reading and seed.
        seeds: those of the suite.

    Raises:
        SystemExit: the baseline has a failed run, so that nothing can be decided.
    """
    kept = {name: of for name, of in scores.items() if of.keys() == set(seeds)}
    if BASELINE not in kept:
        raise SystemExit(f"{BASELINE} does not have all seeds of {SUITE}: nothing is decided")
    return kept


def differences(scores: dict[str, dict[int, float]]) -> dict[str, Difference]:
    """Each reading's difference to the baseline, with p-values corrected for their number.

    Args:
        scores: by reading and seed, of the readings that have all of them.
    """
    others = {name: of for name, of in scores.items() if name != BASELINE}
    found = {name: paired(of, scores[BASELINE]) for name, of in others.items()}
    known = {name: of for name, of in found.items() if of is not None and of.p is not None}
    adjusted = holm([of.p for of in known.values() if of.p is not None])
    return {
        name: replace(of, adjusted=p) for (name, of), p in zip(known.items(), adjusted, strict=True)
    }


def decision(scores: dict[str, dict[int, float]]) -> str:
    """What the rule says, in a few sentences.

    Args:
        scores: by reading and seed, of the readings that have all of them.
    """
    means = {name: statistics.fmean(by_seed.values()) for name, by_seed in scores.items()}
    highest = max(means, key=lambda name: means[name])
    if highest == BASELINE:
        return f"{BASELINE} has the highest mean and stays the default."
    found = differences(scores)
    difference = found.get(highest)
    ends = difference.interval if difference is not None else None
    if difference is None or ends is None or difference.adjusted is None:
        return f"{highest} has the highest mean, but no interval; {BASELINE} stays the default."
    beyond = ends.low > 0 or ends.high < 0
    said = (
        f"{highest} has the highest mean; the interval of its difference to {BASELINE},"
        f" {ends.low:+.2f} to {ends.high:+.2f}, {'excludes' if beyond else 'contains'} 0;"
        f" {highest if beyond else BASELINE} {'becomes' if beyond else 'stays'} the default."
        f" Its p-value corrected for {len(found)} comparison{'s' * (len(found) != 1)} (Holm) is"
        f" {difference.adjusted:.4f}."
    )
    if beyond and difference.adjusted >= 1 - CONFIDENCE:
        said += " Only the uncorrected interval changes the default."
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    store = Store(parser.parse_args().results)
    scores: dict[str, dict[int, float]] = {}
    missing = 0
    suite = load_suite(ROOT / "suites" / f"{SUITE}.yaml")
    for cell in expand(suite):
        if cell.method is None or cell.method.name != "wcord":
            continue
        folder = store.folder(cell.run)
        by_seed = scores.setdefault(cell.method.title, {})
        if folder.state == "done":
            by_seed[cell.seed] = folder.result()["scores"]["top1"]
        else:
            missing += folder.state in ("missing", "begun")
    if missing:
        raise SystemExit(
            f"{missing} runs of {SUITE} are not done in {store.root}: nothing is decided;"
            f" wcordbench run suites/{SUITE}.yaml trains them"
        )
    complete = whole(scores, suite.seeds)
    failed = sorted(scores.keys() - complete.keys())
    rows: list[dict[str, Any]] = []
    found = differences(complete)
    for name, by_seed in complete.items():
        difference = found.get(name)
        adjusted = difference.adjusted if difference is not None else None
        ends = difference.interval if difference is not None else None
        rows.append(
            {
                "reading": name,
                "seeds": len(by_seed),
                "held-out top-1": f"{statistics.fmean(by_seed.values()):.2f}",
                f"minus {BASELINE}": f"{difference.mean:+.2f}" if difference is not None else "",
                "95 % interval": f"{ends.low:+.2f} to {ends.high:+.2f}" if ends else "",
                "p (Holm)": f"{adjusted:.4f}" if adjusted is not None else "",
            }
        )
    write(
        "readings",
        "Readings of WCoRD on held-out training images",
        rows,
        [
            "The rule is in docs/wcord.md. " + decision(complete),
            *(f"{name} has a failed run and does not count." for name in failed),
            "",
            "By `python benchmarks/readings.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
