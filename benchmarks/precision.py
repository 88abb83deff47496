"""What bf16 costs in accuracy: python benchmarks/precision.py [--results DIR]

The runs of suites/cifar100_cpu_bf16.yaml against those of suites/cifar100_cpu.yaml: of one method
and seed they start from the same weights, see the same batches and have the same fp32 teacher.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from common import ROOT, write

from wcordbench.results.statistics import paired
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite


def scores(suite: str, store: Store) -> dict[str, dict[int, float]]:
    """Test accuracy by method and seed of the runs that are done."""
    found: dict[str, dict[int, float]] = {}
    for cell in expand(load_suite(ROOT / "suites" / f"{suite}.yaml")):
        folder = store.folder(cell.run)
        if cell.method is not None and folder.state == "done":
            found.setdefault(cell.method.title, {})[cell.seed] = folder.result()["scores"]["top1"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    store = Store(parser.parse_args().results)
    exact, rounded = scores("cifar100_cpu", store), scores("cifar100_cpu_bf16", store)
    rows = []
    for method, by_seed in rounded.items():
        difference = paired(by_seed, exact.get(method, {}))
        if difference is None:
            continue
        ends = difference.interval
        both = [(exact[method][s], by_seed[s]) for s in difference.seeds]
        rows.append(
            {
                "method": method,
                "seeds": len(both),
                "fp32": f"{statistics.fmean(a for a, _ in both):.2f}",
                "bf16": f"{statistics.fmean(b for _, b in both):.2f}",
                "bf16 - fp32": f"{statistics.fmean(difference.values):+.2f}",
                "95 % interval": f"{ends.low:+.2f} to {ends.high:+.2f}" if ends else "",
                "each seed": " ".join(f"{v:+.2f}" for v in difference.values),
            }
        )
    if not rows:
        raise SystemExit(f"no run of the two suites is in {store.root}")
    write(
        "precision",
        "What bf16 costs in accuracy",
        rows,
        [
            "Top-1 accuracy in percent after the last of 4 epochs on CIFAR-100 at 16×16 pixels,"
            " resnet56→resnet20, differences paired by seed with Student's t interval. By"
            " `python benchmarks/precision.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
