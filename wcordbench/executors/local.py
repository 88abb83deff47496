"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from wcordbench.devices import available
from wcordbench.executors import base, packing
from wcordbench.executors.base import Assignment, Options, Report
from wcordbench.executors.session import TICK, Session, Worker
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job

#: seconds that a worker which has said its last word may take to end
GRACE = 30.0


def create(options: Options) -> LocalExecutor:
    """The executor that a user's options describe."""
    options.only()
    executor = LocalExecutor(
        options.store_root,
        options.data_root,
        options.device,
        options.workers,
        options.threads,
        options.checkpoint_minutes,
        options.per_gpu,
        options.compile,
    )
    if options.device is not None:
        available(executor.device)  # one that is not there is refused before anything is written
    return executor


@dataclass
class LocalExecutor:
    """Runs jobs in worker processes, each job as soon as its teacher is done.

    Args:
        store_root: the results folder.
        data_root: the folder that holds datasets.
        device: ``cpu``, ``cuda`` or ``cuda:0``; None takes CUDA where there is one.
        workers: processes; None is measured for a long suite, and else one a core on the
            CPU and ``per_gpu`` a device on CUDA.
        threads: threads a process; None divides the cores among the jobs that run.
        checkpoint_minutes: how often checkpoints are written within an epoch.
        per_gpu: processes a CUDA device; None is measured for a long suite, and else one.
        compile: see :class:`wcordbench.executors.base.Options`.
    """

    store_root: Path
    data_root: Path
    device: str | None = None
    workers: int | None = None
    threads: int | None = None
    checkpoint_minutes: float = 10.0
    per_gpu: int | None = None
    compile: str = "off"

    def run(self, jobs: list[Job], report: Report) -> None:
        """See :class:`wcordbench.executors.base.Executor`."""
        if not jobs:
            return
        Store(self.store_root).prepare()
        _Session(self.packed(jobs, report), jobs, report).run()

    def packed(self, jobs: list[Job], report: Report) -> LocalExecutor:
        """With what a measurement says of what the user has left open.

        Raises:
            UserError: the device is not there.
        """
        devices = available(self.device)
        on_cuda = devices[0] != "cpu"
        if self.workers or (self.per_gpu if on_cuda else self.threads):
            return self
        found = packing.choose(jobs, devices[0], cores(), devices=len(devices))
        if found is None:
            return self
        report({"kind": "note", "line": found.line})
        if on_cuda:
            return dataclasses.replace(self, per_gpu=found.side_by_side)
        return dataclasses.replace(self, workers=found.side_by_side)

    def layout(self, jobs: int) -> tuple[list[str], int, int]:
        """The devices, how many workers run so many jobs at a time, and the threads of each.

        Raises:
            UserError: the device is not there.
        """
        devices = available(self.device)
        hold = len(devices) * (self.per_gpu or 1) if devices[0] != "cpu" else cores()
        workers = self.workers or hold
        return devices, workers, self.threads or max(1, cores() // max(1, min(workers, jobs)))


@dataclass(eq=False)
class _Process(Worker):
    process: Any
    connection: Connection
    device: str


class _Session(Session[_Process]):
    """Each worker has a pipe of its own: a queue or an event shared by all has locks, and a
    worker that is killed while it holds one would stop all the others for good.
    """

    def __init__(self, executor: LocalExecutor, jobs: list[Job], report: Report) -> None:
        self.executor = executor
        self.devices, workers, _ = executor.layout(len(jobs))
        self.context = multiprocessing.get_context("spawn")
        super().__init__(Store(executor.store_root), jobs, report, workers, workers)

    def launch(self, jobs: list[Job], waiting: int) -> None:
        """Start processes."""
        _, _, threads = self.executor.layout(len(self.workers) + len(jobs) + waiting)
        for job in jobs:
            self._start(job, threads)

    def _start(self, job: Job, threads: int) -> None:
        executor = self.executor
        used = [w.device for w in self.workers]
        device = min(self.devices, key=used.count)
        ours, theirs = self.context.Pipe()
        assignment = Assignment(
            job, str(executor.store_root), str(executor.data_root), device, threads,
            executor.checkpoint_minutes, executor.compile,
        )  # fmt: skip
        # No daemon: those may not have the processes that decode images. It ends with its pipe.
        process = self.context.Process(target=_work, args=(theirs, assignment))
        # Ctrl-C reaches every process of the terminal. Blocked here, it is blocked in the
        # worker until that ignores it, and reaches this process once the worker is known.
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            process.start()
            self.workers.append(_Process(job, process, ours, device))
        finally:
            theirs.close()  # else the end of the worker would not close the pipe
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def listen(self) -> None:
        """Hear one word of each that speaks."""
        workers: dict[Any, _Process] = {w.connection: w for w in self.workers}
        for connection in wait(list(workers), TICK):
            worker = workers[connection]
            try:
                event = worker.connection.recv()
            except (EOFError, OSError):  # also when it was killed in the middle of a word
                worker.process.join(GRACE)
                worker.process.kill()
                worker.connection.close()
                self.ended(worker, _how_it_ended(worker.process.exitcode))
            else:
                self.take(worker, event)

    def tell(self, worker: _Process) -> None:
        """Any word means stop."""
        with contextlib.suppress(OSError):
            worker.connection.send("stop")
        if not worker.loaded:  # it has nothing to save, and may take minutes to listen
            worker.process.kill()

    def kill(self, worker: _Process) -> None:
        """SIGKILL."""
        worker.process.kill()

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self.stop_workers()
        for worker in self.workers:
            worker.process.join(GRACE)
            worker.process.kill()
            worker.connection.close()
        self.workers.clear()


def cores() -> int:
    """Those that this process may use: a container or scheduler may give fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = "; memory may have run out: try fewer --workers" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    if exitcode == 0:
        return "its process was told to stop"
    return f"its process ended with {exitcode}"


def _work(connection: Connection, assignment: Assignment) -> None:
    """A worker process: train one job, say what happens, stop when anything comes back."""
    told = False

    def on_term(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal told  # schedulers send SIGTERM to every process: the same as from the parent
        told = True

    for number in (signal.SIGINT, signal.SIGHUP):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})

    def report(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: should_stop says so
            connection.send(event)

    def should_stop() -> bool:
        try:
            return told or connection.poll()  # a word from the parent, or its end
        except OSError:
            return True

    base.train(assignment, report, should_stop)
    connection.close()
