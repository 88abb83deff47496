"""What a GPU is asked first, in nine minutes at most: python benchmarks/gpu.py

No network and no files are needed: images are random, the digits are scikit-learn's. In this order,
each as long as there is time: the tests that a GPU is worth running for; the bits of a resumed
run; every method's step beside its floor, and its memory; a few methods compiled and as CUDA
graphs; one to eight jobs at once. Without a GPU it does the same with tiny counts, in about a
minute, prints the table and stores nothing: so that it is known to work.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from common import (
    CLASSES,
    ROOT,
    SIZE,
    batches_of,
    benchmark_runs,
    features,
    learner,
    median,
    network,
    write,
)
from torch import Tensor
from torch.nn import functional as F

from wcordbench import models, registry
from wcordbench.methods.base import Batch, Features
from wcordbench.models.fold import placed
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner

TEACHER, STUDENT, BATCH = "resnet56", "resnet20", 64
COMPILED = ["student", "kd", "crd", "wcord"]
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
#: the most that all of it may take; a CPU of its own needs a minute
SECONDS = 540 if CUDA else 300
#: steps timed at once; rounds; jobs at once; seconds that they train
STEPS, ROUNDS, JOBS, LONG = (20, 5, (1, 2, 4, 8), 6.0) if CUDA else (1, 1, (1, 2), 1.0)
METHODS = list(registry.catalogue("method")) if CUDA else COMPILED

Row = dict[str, Any]


class Deadline:
    """Says how much is left of the time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()


def wait() -> None:
    """Until the device has done what it was told."""
    if CUDA:
        torch.cuda.synchronize(DEVICE)


def milliseconds(action: Callable[[], object]) -> float:
    """Of a call, from rounds of several."""
    action()
    times = []
    for _ in range(ROUNDS):
        wait()
        before = time.perf_counter()
        for _ in range(STEPS):
            action()
        wait()
        times.append(1000 * (time.perf_counter() - before) / STEPS)
    return median(times)


def row(what: str, case: str, **values: str) -> Row:
    """A line of the table."""
    keys = ("floor ms", "eager ms", "compiled ms", "graph ms", "peak MiB", "found")
    return {
        "what": what,
        "case": case,
        **{key: values.get(key.replace(" ", "_"), "") for key in keys},
    }


# --- tests and bits -----------------------------------------------------------------


def tests(deadline: Deadline) -> list[Row]:
    """The tests marked ``cuda``."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/training"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=max(deadline.left() / 3, 30)
        )
    except subprocess.TimeoutExpired:
        return [row("tests", "marked cuda", found="too slow")]
    failed = re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-200:]]
    found = "passed" if done.returncode == 0 else f"failed: {', '.join(failed) or last[0]}"
    return [row("tests", "marked cuda", found=found)]


def digits(folder: Path, *methods: str) -> list[Run]:
    """Short runs of the digits at seed 0, beside a teacher of fresh weights."""
    checkpoint = folder / "teacher.pt"
    if not checkpoint.exists():
        torch.save(models.create("resnet20", 10, 8, 1).state_dict(), checkpoint)
    sets = [
        "seeds=[0]", "train.epochs=2", f"methods=[{', '.join(methods)}]",
        f"pairs=[{{teacher: {{model: resnet20, checkpoint: {checkpoint},"
        f" allow_chance: true}}, student: resnet8}}]",
    ]  # fmt: skip
    suite = load_suite(ROOT / "suites" / "digits.yaml", sets)
    return [cell.run for cell in expand(suite) if cell.method is not None]


def outcome(runs: list[Run], results: Path, stop_after: int | None = None) -> list[str]:
    """Train; SHA-256 of each run's weights, after a stop and a resume where asked for."""
    store = Store(results)
    train = partial(Cohort, runs, store, Path(), DEVICE)
    if stop_after is not None:
        answers = iter([False] * stop_after)
        with contextlib.suppress(StoppedError):
            train(should_stop=lambda: next(answers, True)).train()
    train().train()
    folders = [store.folder(run).path / "student.pt" for run in runs]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in folders]


def resume(deadline: Deadline) -> list[Row]:
    """Whether a run that was stopped ends with the bits of one that was not."""
    if deadline.left() < SECONDS / 3:
        return []
    methods = ("student", "kd", "{name: crd, negatives: 512}")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = digits(folder, *methods)
        first = outcome(runs, folder / "first")
        again = outcome(runs, folder / "again")
        resumed = outcome(runs, folder / "resumed", stop_after=len(runs) * 30)
        for method, a, b, c in zip(("student", "kd", "crd"), first, again, resumed, strict=True):
            words = {True: "equal", False: "differ"}
            found = f"twice: bits {words[a == b]}; stopped and resumed: bits {words[a == c]}"
            rows.append(row("bits", f"digits, {method}, 2 epochs", found=found))
    return rows


# --- steps ---------------------------------------------------------------------------


class Floor:
    """What no implementation saves: the networks and the optimiser on tensors that are ready."""

    def __init__(self, teacher: torch.nn.Module) -> None:
        torch.manual_seed(0)
        self.teacher = teacher
        self.student = models.create(STUDENT, CLASSES, SIZE).to(DEVICE)
        self.student = self.student.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, fused=True
        )

    def step(self, images: Tensor, batch: Batch, taught: bool) -> None:
        """One of a run with or without a teacher."""
        if taught:
            features(self.teacher, images)
        loss = F.cross_entropy(self.student(images).logits, batch.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class Bench:
    """Steps of the suite's own learners, with the batches and the teacher that they pay for."""

    def __init__(self) -> None:
        self.runs = benchmark_runs(TEACHER, STUDENT, METHODS)
        config = next(iter(self.runs.values())).config
        self.drawn = batches_of(config, BATCH, DEVICE)
        self.images, self.batch = next(self.drawn)
        self.teacher = placed(network(TEACHER), SIZE, 3, DEVICE)
        floor = Floor(self.teacher)
        self.floor = {
            taught: milliseconds(partial(floor.step, self.images, self.batch, taught))
            for taught in (False, True)
        }

    def learner(self, name: str, mode: str = "off") -> Learner:
        """A method's, in its main stage."""
        made = learner(self.runs[name], BATCH, DEVICE)
        made.epoch = 0
        made.optimizer = made._optimizer()
        if made.objective.prepares:
            made.objective.prepare([(features(self.teacher, self.images), self.batch.labels)])
        # Without a GPU torch's compiler would take longer than all the rest.
        made.compile(mode, backend="inductor" if CUDA else "eager")
        made.start_epoch()
        return made

    def step(self, one: Learner) -> None:
        """Batch, teacher and step, as a run alone pays for them."""
        images, batch = next(self.drawn)
        known: Features | None = features(self.teacher, images) if one.needs_teacher else None
        second = None
        if one.second_view:
            flipped = images.flip(3)
            second = (flipped, features(self.teacher, flipped))
        one.train_step(images, known, batch, second)

    def method(self, name: str, deadline: Deadline) -> Row:
        """Of a method: its step in every mode that there is time for, and its memory."""
        values: dict[str, str] = {}
        try:
            one = self.learner(name)
            values["floor_ms"] = f"{self.floor[one.needs_teacher]:.2f}"
            if CUDA:
                torch.cuda.reset_peak_memory_stats(DEVICE)
            values["eager_ms"] = f"{milliseconds(partial(self.step, one)):.2f}"
            if CUDA:
                values["peak_MiB"] = f"{torch.cuda.max_memory_allocated(DEVICE) / 2**20:.0f}"
            modes = {"compiled_ms": "default", **({"graph_ms": "reduce-overhead"} if CUDA else {})}
            for key, mode in modes.items():
                if name in COMPILED and deadline.left() > SECONDS / 4:
                    values[key] = (
                        f"{milliseconds(partial(self.step, self.learner(name, mode))):.2f}"
                    )
        except Exception as error:  # one method's failure is a line of the table
            values["found"] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        return row("step", name, **values)


def steps(deadline: Deadline) -> list[Row]:
    """A line a method; those with a graph last, as compiling takes longest."""
    bench = Bench()
    found = {}
    for name in sorted(bench.runs, key=lambda name: name in COMPILED):
        if deadline.left() < SECONDS / 8:
            found[name] = row("step", name, found="no time left")
        else:
            found[name] = bench.method(name, deadline)
    return [found[name] for name in bench.runs]


# --- jobs --------------------------------------------------------------------------


def job(start: Barrier, counts: Any) -> None:
    """Train KD for a while; how many steps a second."""
    torch.set_num_threads(1)
    bench = Bench.__new__(Bench)  # without a floor
    bench.runs = benchmark_runs(TEACHER, STUDENT, ["kd"])
    bench.drawn = batches_of(bench.runs["kd"].config, BATCH, DEVICE)
    bench.images, bench.batch = next(bench.drawn)
    bench.teacher = placed(network(TEACHER), SIZE, 3, DEVICE)
    one = bench.learner("kd")
    bench.step(one)
    wait()
    start.wait()
    before, done = time.monotonic(), 0
    while time.monotonic() - before < LONG:
        bench.step(one)
        wait()
        done += 1
    counts.put(done / (time.monotonic() - before))


def jobs(deadline: Deadline) -> list[Row]:
    """Processes that share the device."""
    spawn = multiprocessing.get_context("spawn")
    rows, alone = [], 0.0
    for count in JOBS:
        if deadline.left() < 3 * LONG + 10:
            break
        start, counts = spawn.Barrier(count), spawn.Queue()
        processes = [spawn.Process(target=job, args=(start, counts)) for _ in range(count)]
        for process in processes:
            process.start()
        total = sum(counts.get(timeout=max(deadline.left(), 30)) for _ in processes)
        for process in processes:
            process.join()
        alone = alone or total
        found = f"{total:.1f} steps a second, {total / alone:.2f} × one job's"
        rows.append(row("jobs at once", f"{count} × kd", found=found))
    return rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    deadline = Deadline(SECONDS)
    rows = [line for part in (tests, resume, steps, jobs) for line in part(deadline)]
    name = torch.cuda.get_device_name(DEVICE) if CUDA else "no GPU: tiny counts, nothing stored"
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    compiled = "" if CUDA else " *Compiled* is torch's graph without a compiler."
    write(
        f"gpu_{slug}",
        f"A GPU's first minutes: {name}",
        rows,
        [
            f"Milliseconds of a step end to end, {TEACHER}→{STUDENT}, batch {BATCH} of 32×32 random"
            f" images, fp32: batch, teacher and step; medians of {ROUNDS} rounds of {STEPS}."
            " *Floor*: networks and optimiser on ready tensors, eager. *Graph*: CUDA graphs"
            f" (`--compile reduce-overhead`).{compiled} Jobs are processes of their own. By"
            " `python benchmarks/gpu.py`, on:",
        ],
        partial=not CUDA,
    )


if __name__ == "__main__":
    main()
