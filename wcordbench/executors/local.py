"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job, balance
from wcordbench.suite.runs import Run

Report = Callable[[dict[str, Any]], None]

#: seconds between looks at what workers and other processes are doing
TICK, LOOK_ELSEWHERE = 0.2, 2.0
#: seconds that a worker which has said its last word may take to end
GRACE = 30.0


class InterruptedRunError(Exception):
    """Ctrl-C, SIGTERM or a closed terminal; the workers have left.

    Attributes:
        saved: whether they have written their checkpoints first (not on the second signal).
    """

    def __init__(self, saved: bool) -> None:
        super().__init__()
        self.saved = saved


@dataclass
class LocalExecutor:
    """Runs jobs in worker processes, each job as soon as its teacher is done.

    Args:
        store_root: the results folder.
        data_root: the folder that holds datasets.
        device: ``cpu``, ``cuda`` or ``cuda:0``; None takes CUDA where there is one.
        workers: processes; None is one a core on the CPU and one a device on CUDA.
        threads: threads a process; None divides the cores among the jobs that run.
        checkpoint_minutes: how often checkpoints are written within an epoch.
    """

    store_root: Path
    data_root: Path
    device: str | None = None
    workers: int | None = None
    threads: int | None = None
    checkpoint_minutes: float = 10.0

    def run(self, jobs: list[Job], report: Report) -> None:
        """Train every job; a failed run is reported and the others go on.

        What another process is training is waited for, and taken over if that process ends
        without finishing it. Must be called in the main thread, where signals arrive.

        Args:
            jobs: of the runs that are not done.
            report: called with every event of the training, see the command's display.

        Raises:
            InterruptedRunError: on Ctrl-C or SIGTERM.
            UserError: what no run can go on without is missing.
        """
        if not jobs:
            return
        devices = self._devices()
        Store(self.store_root).prepare()
        session = _Session(self, devices, jobs, report)
        caught = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            caught.append(signal.SIGHUP)
        previous = {s: signal.signal(s, session.on_signal) for s in caught}
        try:
            try:
                session.loop()
            finally:
                session.close()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _devices(self) -> list[str]:
        if self.device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise UserError(f"--device {self.device!r} is not known; give cpu, cuda or cuda:0")
        if self.device == "cpu":
            return ["cpu"]
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if self.device is None:
            return [f"cuda:{i}" for i in range(count)] or ["cpu"]
        if int(self.device.partition(":")[2] or 0) >= count:
            raise UserError(
                f"--device {self.device} is not there ({count} CUDA devices); leave it out to"
                " take what there is"
            )
        return [self.device]


@dataclass
class _Worker:
    """A process, and what is known of it."""

    process: Any
    connection: Connection
    job: Job
    device: str
    #: runs that it has not said the last word about
    open: dict[str, Run]
    loaded: bool = False
    told: bool = False
    crash: str | None = None


@dataclass
class _Session:
    """One call of :meth:`LocalExecutor.run`.

    Each worker has a pipe of its own: a queue or an event shared by all has locks, and a
    worker that is killed while it holds one would stop all the others for good.
    """

    executor: LocalExecutor
    devices: list[str]
    jobs: list[Job]
    report: Report
    workers: dict[int, _Worker] = field(default_factory=dict)
    #: runs that other processes are training, and the job that each was in
    elsewhere: dict[Run, Job] = field(default_factory=dict)
    #: runs that will have no result now
    hopeless: set[Run] = field(default_factory=set)
    error: UserError | None = None
    interrupted: bool = False
    serial: int = 0
    looked: float = 0.0

    def __post_init__(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.store = Store(self.executor.store_root)
        try:
            self.cores = len(os.sched_getaffinity(0))  # a container or scheduler may give fewer
        except AttributeError:
            self.cores = os.cpu_count() or 1
        on_cuda = self.devices[0] != "cpu"
        self.limit = self.executor.workers or (len(self.devices) if on_cuda else self.cores)
        self.pending = _waves(self.jobs, self.limit)

    def loop(self) -> None:
        """Start what can start, listen, until nothing is left or a stop is asked for."""
        while True:
            if self.error is not None or self.interrupted:
                self._stop_workers()
                if not self.workers:
                    break
            else:
                self._look_elsewhere()
                moved = self._start_ready()
                if not (moved or self.workers or self.elsewhere):
                    break
            self._listen()
        if self.error is not None:
            raise self.error
        if self.interrupted:
            raise InterruptedRunError(saved=True)
        for job in self.pending:  # nobody trains their teacher: it is not among the jobs
            self._give_up(job)

    def on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002
        """The first signal asks for checkpoints, the second one does not wait for them."""
        if not self.interrupted:
            self.interrupted = True
            return
        for worker in self.workers.values():
            worker.process.kill()
        raise InterruptedRunError(saved=False)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        self._stop_workers()
        for worker in self.workers.values():
            worker.process.join(GRACE)
            worker.process.kill()
            worker.connection.close()
        self.workers.clear()

    # --- starting -------------------------------------------------------------------

    def _start_ready(self) -> bool:
        """Take what can start from the pending jobs; says whether there was anything."""
        before = len(self.pending)
        awaited = {run for worker in self.workers.values() for run in worker.open.values()}
        awaited.update(self.elsewhere)
        ready = []
        for job in list(self.pending):
            if job.after in awaited:
                continue
            state = None if job.after is None else self.store.folder(job.after).state
            if job.after is None or state == "done":
                ready.append(job)
            elif state in ("failed", "undefined") or job.after in self.hopeless:
                self.pending.remove(job)
                self._give_up(job)
        at_once = max(1, min(self.limit, len(self.workers) + len(ready)))
        threads = self.executor.threads or max(1, self.cores // at_once)
        for job in ready[: self.limit - len(self.workers)]:
            self.pending.remove(job)
            runs = self._unclaimed(job)
            if runs:
                self._start(Job(runs, job.after), threads)
        return len(self.pending) < before

    def _unclaimed(self, job: Job) -> tuple[Run, ...]:
        """The runs of a job that are neither settled nor being trained by another process."""
        runs = []
        for run in job.runs:
            folder = self.store.folder(run)
            if folder.state not in ("missing", "begun"):
                self._settled(run)
            elif folder.held():
                self._busy(run, job)
            else:
                runs.append(run)
        return tuple(runs)

    def _start(self, job: Job, threads: int) -> None:
        executor = self.executor
        used = [w.device for w in self.workers.values()]
        device = min(self.devices, key=used.count)
        ours, theirs = self.context.Pipe()
        process = self.context.Process(
            target=_work,
            args=(
                theirs, job, str(executor.store_root), str(executor.data_root), device, threads,
                executor.checkpoint_minutes, registry.plugins(),
            ),
            daemon=True,
        )  # fmt: skip
        # Ctrl-C reaches every process of the terminal. Blocked here, it is blocked in the
        # worker until that ignores it, and reaches this process once the worker is known.
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            process.start()
            opened = {run.name: run for run in job.runs}
            self.workers[self.serial] = _Worker(process, ours, job, device, opened)
            self.serial += 1
        finally:
            theirs.close()  # else the end of the worker would not close the pipe
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    # --- listening ------------------------------------------------------------------

    def _listen(self) -> None:
        if not self.workers:
            time.sleep(TICK)
            return
        numbers: dict[Any, int] = {w.connection: n for n, w in self.workers.items()}
        for connection in wait(list(numbers), TICK):
            number = numbers[connection]
            worker = self.workers[number]
            try:
                event = worker.connection.recv()
            except (EOFError, OSError):  # also when it was killed in the middle of a word
                self._ended(number)
            else:
                self._take(worker, event)

    def _take(self, worker: _Worker, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "loaded":
            worker.loaded = True
        elif kind == "crash":
            worker.crash = event["reason"]
        elif kind == "error":
            self.error = self.error or UserError(event["reason"])
        elif kind == "busy":
            self._busy(worker.open.pop(event["run"]), worker.job)
        elif kind == "memory":  # it left a cohort; alone it may fit
            run = worker.open.pop(event["run"])
            self.pending.append(Job((run,), worker.job.after))
            self.report(event)
        else:
            if kind in ("done", "failed", "undefined"):
                run = worker.open.pop(event["run"])
                if kind != "done":
                    self.hopeless.add(run)
            self.report(event)

    def _ended(self, number: int) -> None:
        worker = self.workers[number]
        worker.process.join(GRACE)
        worker.process.kill()
        del self.workers[number]
        worker.connection.close()
        if self.error is not None or self.interrupted:
            return
        lost = []
        for run in worker.open.values():
            if self.store.folder(run).state in ("missing", "begun"):
                lost.append(run)
            else:
                self._settled(run)
        if lost:
            self.hopeless.update(lost)
            reason = worker.crash or _how_it_ended(worker.process.exitcode)
            self.report({"kind": "lost", "runs": [r.name for r in lost], "reason": reason})

    def _stop_workers(self) -> None:
        for worker in self.workers.values():
            if not worker.told:
                worker.told = True
                with contextlib.suppress(OSError):
                    worker.connection.send("stop")
                if not worker.loaded:  # it has nothing to save, and may take minutes to listen
                    worker.process.kill()

    # --- what other processes do ----------------------------------------------------

    def _busy(self, run: Run, job: Job) -> None:
        self.elsewhere[run] = job
        self.report({"kind": "busy", "run": run.name})

    def _look_elsewhere(self) -> None:
        if not self.elsewhere or time.monotonic() - self.looked < LOOK_ELSEWHERE:
            return
        self.looked = time.monotonic()
        left: dict[Job, list[Run]] = {}
        for run, job in list(self.elsewhere.items()):
            folder = self.store.folder(run)
            held = folder.held()  # asked first: a run that was let go of stays as it is
            if folder.state not in ("missing", "begun"):
                del self.elsewhere[run]
                self._settled(run)
            elif not held:
                del self.elsewhere[run]
                left.setdefault(job, []).append(run)
        self.pending += [Job(tuple(runs), job.after) for job, runs in left.items()]

    def _settled(self, run: Run) -> None:
        """Report a run that another process has finished."""
        folder = self.store.folder(run)
        state = folder.state
        if state == "done":
            top1 = folder.result()["scores"]["top1"]
            self.report({"kind": "done", "run": run.name, "top1": top1})
        else:
            self.hopeless.add(run)
            self.report({"kind": state, "run": run.name, "reason": folder.failure()["reason"]})

    def _give_up(self, job: Job) -> None:
        """Report the runs of a job whose teacher will not be there."""
        assert job.after is not None
        for run in job.runs:
            self.hopeless.add(run)
            reason = f"its teacher {job.after.name} has no result"
            self.report({"kind": "failed", "run": run.name, "reason": reason})


def _waves(jobs: list[Job], workers: int) -> list[Job]:
    """Balance the jobs that can run side by side: teachers, then the others."""
    awaited = {job.after for job in jobs if job.after is not None}
    first = [j for j in jobs if j.runs[0] in awaited]
    rest = [j for j in jobs if j.runs[0] not in awaited]
    return [*first, *balance(rest, workers)]


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = "; memory may have run out: try fewer --workers" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    if exitcode == 0:
        return "its process was told to stop"
    return f"its process ended with {exitcode}"


def _work(
    connection: Connection, job: Job, store_root: str, data_root: str, device: str, threads: int,
    checkpoint_minutes: float, plugins: tuple[Path, ...],
) -> None:  # fmt: skip
    """A worker process: train one job, say what happens, stop when anything comes back."""
    told = False

    def on_term(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal told  # schedulers send SIGTERM to every process: the same as from the parent
        told = True

    for number in (signal.SIGINT, signal.SIGHUP):  # the parent decides
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_term)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    os.environ["OMP_NUM_THREADS"] = str(threads)

    def report(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: should_stop says so
            connection.send(event)

    def should_stop() -> bool:
        try:
            return told or connection.poll()  # a word from the parent, or its end
        except OSError:
            return True

    try:
        import torch

        from wcordbench.training.cohort import Cohort
        from wcordbench.training.learner import StoppedError

        for plugin in plugins:  # this process starts knowing none
            registry.add_plugin(plugin)
        torch.set_num_threads(threads)
        names = [r.name for r in job.runs]
        report({"kind": "job", "runs": names, "device": device, "threads": threads})
        with contextlib.suppress(StoppedError):
            Cohort(
                list(job.runs),
                Store(store_root),
                Path(data_root),
                torch.device(device),
                report,
                should_stop,
                checkpoint_minutes,
            ).train()
    except UserError as error:
        report({"kind": "error", "reason": str(error)})
    except BaseException:
        report({"kind": "crash", "reason": traceback.format_exc()})
    connection.close()
