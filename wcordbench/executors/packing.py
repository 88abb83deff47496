"""How many processes share a machine: measured in seconds before a long suite, and chosen."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.plan import Job, epochs
from wcordbench.suite.runs import Run

#: seconds of training, all cores busy, below which measuring costs more than it can save
WORTHWHILE = 600.0
#: multiply-accumulates that a core manages in a second, within a factor of two or three
PACE = 2e10
#: what another packing must gain over the usual one to be chosen
GAIN = 1.05
#: training images where a dataset does not say how many it has
IMAGES = 10_000
#: seconds that a packing is measured for, and after which measuring is given up
WINDOW, PATIENCE = 1.5, 90.0
#: jobs that are tried on one CUDA device
CROWDS = (1, 2, 4)
#: of a device's memory that they may take together
MOST = 0.9

#: steps a second of so many processes with so many threads; None where they do not fit
Rate = Callable[[int, int], float | None]


@dataclass(frozen=True)
class Packing:
    """What was chosen.

    Attributes:
        side_by_side: processes on the CPU, or on each CUDA device.
        line: what was measured, in one line.
    """

    side_by_side: int
    line: str


def choose(
    jobs: Sequence[Job],
    device: str,
    cores: int,
    rates: Callable[[Run, str, int], Any] | None = None,
    devices: int = 1,
) -> Packing | None:
    """Measure how many jobs should share the CPU, or a CUDA device.

    Processes train the networks of the costliest job side by side, on random images, for a
    second or two each way: on the CPU a process a core, half as many with two threads each,
    and so on; on CUDA one, two and four processes as memory allows.

    Args:
        jobs: what will be trained.
        device: ``cpu`` or a CUDA device.
        cores: that processes may use.
        rates: a context that measures, for tests.
        devices: CUDA devices that share jobs and cores; one of them is measured.

    Returns:
        None, and nothing is measured, where only one job can run at a time, or where so
        little is to be trained that measuring would cost more than it can save.
    """
    runs = [run for job in jobs for run in job.runs]
    ways = _ways(-(-len(jobs) // devices), device, max(1, cores // devices))
    before = time.monotonic()
    found: dict[tuple[int, int], float] = {}
    try:
        if len(ways) < 2 or _expected(runs) / cores < WORTHWHILE:
            return None
        run = max(runs, key=_work)
        with (rates or _measuring)(run, device, max(w for w, _ in ways)) as rate:
            for way in ways:
                speed = rate(*way)
                if speed is not None:
                    found[way] = speed
                elif device != "cpu":
                    break  # more side by side do not fit either
    except (OSError, EOFError, TimeoutError):  # a process died, or took too long
        return None
    except UserError:  # a network that cannot be built at a size that was a guess
        return None
    if not found:
        return None
    usual = ways[0]
    best = max(found, key=lambda way: found[way])
    if usual in found and found[best] < GAIN * found[usual]:
        best = usual
    unit = "a job" if device == "cpu" else f"jobs on {device}"
    shown = ", ".join(f"{_say(way, device)}: {speed:.2f}" for way, speed in found.items())
    seconds = time.monotonic() - before
    return Packing(
        best[0],
        f"packing: {_say(best, device)} (steps a second of {unit}: {shown};"
        f" measured in {seconds:.0f} s; --workers and --threads fix it)",
    )


def _ways(jobs: int, device: str, cores: int) -> list[tuple[int, int]]:
    """Processes and threads of each to try, the usual way first."""
    if device != "cpu":
        return [(n, max(1, cores // n)) for n in CROWDS if n <= jobs]
    ways, workers = [], min(cores, jobs)
    while workers >= 1:
        ways.append((workers, cores // workers))
        workers //= 2
    return ways


def _say(way: tuple[int, int], device: str) -> str:
    workers, threads = way
    if device != "cpu":
        return f"{workers} side by side"
    return f"{workers}×{threads} thread{'s' * (threads > 1)}"


def _shape(run: Run) -> tuple[int, int, int]:
    """Classes, side and channels of a run's images, as far as they are known without them."""
    config = run.config
    dataset = config["dataset"]
    meta = registry.get("dataset", dataset["name"]).meta
    side = dataset["size"] or meta.get("size") or dataset["options"].get("image_size", 32)
    return meta.get("classes", 100), side, len(dataset["mean"])


def _work(run: Run) -> float:
    """Multiply-accumulates of an image: forward and backward, and the teacher's pass."""
    from wcordbench import models

    config, shape = run.config, _shape(run)
    teacher = models.macs(config["teacher"]["model"], *shape) if config["teacher"] else 0.0
    return 3 * models.macs(config["model"], *shape) + teacher


def _expected(runs: Sequence[Run]) -> float:
    """Seconds that one core would need, roughly."""
    total = 0.0
    for run in runs:
        meta = registry.get("dataset", run.config["dataset"]["name"]).meta
        total += epochs(run) * meta.get("images", IMAGES) * _work(run)
    return total / PACE


@contextlib.contextmanager
def _measuring(run: Run, device: str, most: int) -> Any:
    """Processes that train a run's networks on demand; gives their :data:`Rate`."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    limit = time.monotonic() + PATIENCE
    try:
        for _ in range(most):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_train,
                args=(theirs, run.config, _shape(run), device, registry.plugins()),
                daemon=True,
            )
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)

        share = 0.0  # of a device's memory that one needs, as far as it is known

        def rate(workers: int, threads: int) -> float | None:
            nonlocal share
            if workers * share > MOST:
                return None
            chosen = pipes[:workers]
            for pipe in chosen:
                pipe.send(threads)
            # After a step to warm up, which each takes even where one has no room.
            share = max(_hear(pipe, limit) for pipe in chosen)
            if workers * share > MOST:
                return None
            for pipe in chosen:
                pipe.send("go")
            return sum(1 / _hear(pipe, limit) for pipe in chosen)

        yield rate
    finally:
        for process in processes:
            process.kill()
            process.join()
        for pipe in pipes:
            pipe.close()


def _hear(pipe: Connection, limit: float) -> float:
    if not pipe.poll(max(0.0, limit - time.monotonic())):
        raise TimeoutError
    return float(pipe.recv())


def _train(
    pipe: Connection, config: dict[str, Any], shape: tuple[int, int, int], where: str,
    plugins: tuple[Path, ...],
) -> None:  # fmt: skip
    """A process that takes a number of threads, warms up, hears "go", and says seconds a step.

    Before it waits for "go" it says what share of a CUDA device's memory it needs.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        step, share = _stepper(config, shape, where, plugins)
        while True:
            import torch

            torch.set_num_threads(int(pipe.recv()))
            try:
                step()
            except torch.OutOfMemoryError:
                pipe.send(math.inf)
                return
            pipe.send(share())
            pipe.recv()
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < WINDOW or steps < 2:
                step()
                steps += 1
            pipe.send((time.perf_counter() - began) / steps)


def _stepper(
    config: dict[str, Any], shape: tuple[int, int, int], where: str, plugins: tuple[Path, ...]
) -> tuple[Callable[[], None], Callable[[], float]]:
    """A step of plain training of a run's networks, and their share of the device's memory."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from wcordbench import models
    from wcordbench.training.precision import autocast, resolve

    for plugin in plugins:
        registry.add_plugin(plugin)
    device = torch.device(where)
    classes, side, channels = shape

    def network(name: str) -> Any:
        built = models.create(name, classes, side, channels).to(device)
        return built.to(memory_format=torch.channels_last)

    student = network(config["model"])
    teacher = network(config["teacher"]["model"]).eval() if config["teacher"] else None
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, fused=True)
    size = config["train"]["batch_size"]
    images = torch.randn(size, channels, side, side, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(size, device=device) % classes
    precision = resolve(config["train"]["precision"], device)

    def step() -> None:
        with autocast(precision, device):
            if teacher is not None:
                with torch.no_grad():
                    teacher(images)
            loss = torch.nn.functional.cross_entropy(student(images).logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def share() -> float:
        if device.type != "cuda":
            return 0.0
        free, total = torch.cuda.mem_get_info(device)
        used = torch.cuda.max_memory_reserved(device) + 2**29  # the context, and the method
        return used / max(1, min(total, free + used))

    return step, share


__all__ = ["Packing", "choose"]
