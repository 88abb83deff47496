"""CRD and WCoRD before and after a change: python benchmarks/contrast.py --before CHECKOUT

CHECKOUT is another commit's working tree (``git worktree add --detach CHECKOUT COMMIT``). Two
processes, one with each tree's package and helpers, take turns, so that what the machine does
meanwhile meets both alike. The loss alone is a method's own cost: draw, forward and backward pass,
bank; *products* are the matrix products in it alone, a forward and a backward one of each side. A
step and its floor are those of ``steps.py`` on resnet56→resnet20.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
METHODS, PRECISIONS = ("crd", "wcord"), ("fp32", "bf16")
BATCH = 64
#: bank rows that a batch looks at: the negatives and a class of CIFAR-100
ROWS, DIM = 16384 + 500, 128
#: milliseconds of processor time that the loss alone may take
OWN = {"fp32": 15.0, "bf16": 8.0}
#: step / floor, at most
LIMIT = 1.15


def work() -> None:
    """For each line of the standard input, a round's milliseconds by what was measured."""
    import torch
    from common import batches_of, benchmark_runs, learner, network
    from growth import USUAL, Case

    torch.set_num_threads(1)
    runs = benchmark_runs("resnet56", "resnet20", ["student", *METHODS])
    teacher = network("resnet56")
    drawn = batches_of(runs["crd"].config, BATCH)

    def autocast(precision: str) -> Any:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def seen(images: Any, precision: str) -> Any:
        with torch.no_grad(), autocast(precision):
            return teacher(images)

    cases, learners = {}, {}
    for precision in PRECISIONS:
        for name, run in runs.items():
            learners[precision, name] = trained = learner(run, BATCH)
            trained.precision = precision
            trained.start_epoch()
            if name in METHODS:
                with autocast(precision):
                    cases[precision, name] = Case(name, **USUAL)

    factors = {
        precision: (
            torch.rand(ROWS, DIM, dtype=dtype),
            torch.rand(DIM, BATCH, dtype=dtype),
            torch.rand(BATCH, ROWS, dtype=dtype),
        )
        for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }

    def products(precision: str) -> None:
        rows, anchors, weights = factors[precision]
        for _ in ("student", "teacher"):
            torch.mm(rows, anchors)
            torch.mm(weights, rows)

    def timed(action: Any) -> tuple[float, Any]:
        before = time.process_time()
        found = action()
        return 1000 * (time.process_time() - before), found

    for _ in sys.stdin:
        found: dict[str, float] = {}
        data, (images, batch) = timed(lambda: next(drawn))
        for precision in PRECISIONS:
            known, features = timed(lambda p=precision, i=images: seen(i, p))
            found[f"{precision} products"], _ = timed(lambda p=precision: products(p))
            plain = learners[precision, "student"]
            student, _ = timed(lambda t=plain, i=images, b=batch: t.train_step(i, None, b))
            for name in METHODS:
                with autocast(precision):
                    own, _ = timed(cases[precision, name].step)
                trained = learners[precision, name]
                step, _ = timed(
                    lambda t=trained, i=images, f=features, b=batch: t.train_step(i, f, b)
                )
                found[f"{precision} {name} own"] = own
                found[f"{precision} {name} ratio"] = (data + known + step) / (known + student)
        print(json.dumps(found), flush=True)


def started(tree: Path) -> subprocess.Popen[str]:
    """A process that measures with a tree's package."""
    places = os.pathsep.join([str(tree / "benchmarks"), str(tree)])
    return subprocess.Popen(
        [sys.executable, "-P", str(HERE), "--work"],
        env={**os.environ, "PYTHONPATH": places},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="the other commit's working tree")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    if arguments.before is None:
        parser.error("give the other working tree with --before")
    from common import median, write

    sides = {"before": arguments.before.resolve(), "after": HERE.parents[1]}
    commits = {
        side: subprocess.run(
            ["git", "-C", str(tree), "rev-parse", "--short=8", "HEAD"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for side, tree in sides.items()
    }  # fmt: skip
    workers = {side: started(tree) for side, tree in sides.items()}
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for number in range(arguments.rounds + 2):
        for side, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("again\n")
            worker.stdin.flush()
            found = json.loads(worker.stdout.readline())
            if number > 1:  # the first ones warm up
                rounds[side].append(found)
    for worker in workers.values():
        worker.communicate()
    rows = []
    for precision in PRECISIONS:
        for name in METHODS:
            row: dict[str, Any] = {"precision": precision, "method": name}
            for what, unit in (("own", "ms"), ("ratio", "step/floor")):
                key = f"{precision} {name} {what}"
                for side in sides:
                    value = median(r[key] for r in rounds[side])
                    row[f"{unit} {side}"] = f"{value:.1f}" if what == "own" else f"{value:.3f}"
                aim = OWN[precision] if what == "own" else LIMIT
                row[f"{unit} aim"] = f"{aim:g}"
                row[f"{unit} met"] = "yes" if value <= aim else "no"
                if what == "own":
                    alone = median(r[f"{precision} products"] for r in rounds["after"])
                    row["products ms"] = f"{alone:.1f}"
            rows.append(row)
    write(
        "contrast",
        "CRD and WCoRD before and after",
        rows,
        [
            f"Before is commit {commits['before']}, after {commits['after']}. *ms*: processor time"
            f" of the loss alone at batch {BATCH}, 16,384 negatives, 50,000 images in the banks."
            " *products ms*: of that the matrix products."
            " *step/floor*: teacher, augmentation and step over teacher and the plain student's"
            f" step, resnet56→resnet20 at 32×32 pixels. 1 thread; medians of {arguments.rounds}"
            " rounds in which both take turns. Where the load average is above 1 the machine was"
            " shared. By `python benchmarks/contrast.py --before CHECKOUT`, on:",
        ],
    )


if __name__ == "__main__":
    main()
