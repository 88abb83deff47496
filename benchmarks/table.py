"""How long ``wcordbench table`` and ``--help`` take: python benchmarks/table.py

The paper's suite, 7 pairs × 28 methods × 10 seeds and 7 teachers, every run finished, in a scratch
folder, 240 epochs each; the commands run as a user starts them, the median of several.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import ROOT, median, write

from wcordbench.results.store import Store, to_json
from wcordbench.suite import expand, load_suite

SUITE = ROOT / "suites" / "cifar100.yaml"
SEEDS = f"seeds={list(range(10))}"
LIMITS = {"table": 2.0, "--help": 0.4}


def fill(root: Path) -> int:
    """Finish every run of the suite with made-up numbers; how many there are."""
    rng = random.Random(0)
    runs = list(dict.fromkeys(c.run for c in expand(load_suite(SUITE, [SEEDS]))))
    store = Store(root)
    for run in runs:
        folder = store.folder(run).path
        folder.mkdir(parents=True)
        scores = {"test_top1": 0.0, "test_top5": 90.0, "test_loss": 1.0, "train_loss": 1.0}
        epochs = [{"epoch": e, "seconds": 60.0, **scores} for e in range(240)]
        epochs[-1]["test_top1"] = top1 = 70 + rng.random()
        metrics = to_json(epochs)
        (folder / "metrics.json").write_bytes(metrics)
        record = {"id": run.id, "config": run.config, "format": 1}
        (folder / "run.json").write_bytes(to_json(record))
        record |= {
            "scores": {"top1": top1, "top5": 90.0, "best_top1": top1},
            "metrics_sha256": hashlib.sha256(metrics).hexdigest(),
        }
        (folder / "result.json").write_bytes(to_json(record))
    return len(runs)


def seconds(*arguments: str, times: int = 5) -> float:
    """The median time of a command."""
    taken = []
    for _ in range(times):
        before = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "wcordbench.cli.main", *arguments],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        taken.append(time.perf_counter() - before)
    return median(taken)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        count = fill(Path(scratch))
        command = ["table", str(SUITE), "--set", SEEDS, "--results", scratch]
        found = {"table": seconds(*command), "--help": seconds("--help")}
    rows = [
        {
            "command": f"wcordbench {name}",
            "finished runs": f"{count:,}" if name == "table" else "",
            "seconds": f"{found[name]:.2f}",
            "target": f"{most:.1f}",
            "met": "yes" if found[name] <= most else "no",
        }
        for name, most in LIMITS.items()
    ]
    write(
        "table",
        "How long the commands that train nothing take",
        rows,
        ["The median of 5 starts, interpreter included. By `python benchmarks/table.py`, on:"],
    )


if __name__ == "__main__":
    main()
