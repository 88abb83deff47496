"""What every executor's session shares: the order of jobs, what is settled, signals."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from wcordbench.errors import UserError
from wcordbench.executors.base import LAST_WORDS, InterruptedRunError, Report
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job
from wcordbench.suite.runs import Run
from wcordbench.suite.schedule import arrange

#: seconds between looks at what workers and other processes are doing
TICK, LOOK_ELSEWHERE = 0.2, 2.0


@dataclass(eq=False)
class Worker:
    """Who trains a job, and what is known of it."""

    job: Job
    #: runs that it has not said the last word about
    open: dict[str, Run] = field(init=False)
    #: it has said where it is
    started: bool = field(default=False, init=False)
    #: it has begun to train, and so listens
    loaded: bool = field(default=False, init=False)
    told: bool = field(default=False, init=False)
    crash: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.open = {run.name: run for run in self.job.runs}


W = TypeVar("W", bound=Worker)


class Session(ABC, Generic[W]):
    """One call of an executor's ``run``: jobs start as soon as their teachers are done.

    An executor says how a worker is started, heard, told to stop and ended. The state of
    every run is read from its folder, so that what another process does, or did before a
    worker vanished, counts as well.

    Args:
        store: where results go.
        jobs: of the runs that are not done.
        report: called with every event.
        slots: workers that run side by side, for the order and the size of the jobs.
        limit: workers at a time; None starts all that can start.
    """

    def __init__(
        self, store: Store, jobs: list[Job], report: Report, slots: int, limit: int | None
    ) -> None:
        self.store, self.report, self.limit = store, report, limit
        self.pending = arrange(jobs, slots)
        self.workers: list[W] = []
        #: runs that other processes are training, and the job that each was in
        self.elsewhere: dict[Run, Job] = {}
        #: runs that will have no result now
        self.hopeless: set[Run] = set()
        self.error: UserError | None = None
        self.interrupted = False
        self.looked = 0.0

    # --- one executor's own -----------------------------------------------------------

    @abstractmethod
    def launch(self, jobs: list[Job], waiting: int) -> None:
        """Start a worker for each job.

        Args:
            jobs: what to train.
            waiting: how many other jobs could start now, were there more workers.
        """

    @abstractmethod
    def listen(self) -> None:
        """Wait for :data:`TICK` at most; :meth:`take` what workers say, close what has ended."""

    @abstractmethod
    def tell(self, worker: W) -> None:
        """Ask a worker to save and leave; called once for each."""

    @abstractmethod
    def kill(self, worker: W) -> None:
        """End a worker now."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing running behind, whatever happened."""

    # --- the loop ---------------------------------------------------------------------

    def run(self) -> None:
        """Train everything; see :meth:`wcordbench.executors.base.Executor.run`."""
        caught = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # not under nohup
            caught.append(signal.SIGHUP)
        previous = {s: signal.signal(s, self._on_signal) for s in caught}
        try:
            try:
                self._loop()
            finally:
                self.close()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _loop(self) -> None:
        while True:
            if self.error is not None or self.interrupted:
                self.stop_workers()
                if not self.workers:
                    break
            else:
                self._look_elsewhere()
                moved = self._start_ready()
                if not (moved or self.workers or self.elsewhere):
                    break
            if self.workers:
                self.listen()
            else:
                time.sleep(TICK)
        if self.error is not None:
            raise self.error
        if self.interrupted:
            raise InterruptedRunError(saved=True)
        for job in self.pending:  # nobody trains their teacher: it is not among the jobs
            self._give_up(job)

    def _on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002
        """The first signal asks for checkpoints, the second one does not wait for them."""
        if not self.interrupted:
            self.interrupted = True
            return
        for worker in self.workers:
            self.kill(worker)
        raise InterruptedRunError(saved=False)

    def stop_workers(self) -> None:
        """Tell those that have not been told."""
        for worker in self.workers:
            if not worker.told:
                worker.told = True
                self.tell(worker)

    # --- starting ---------------------------------------------------------------------

    def _start_ready(self) -> bool:
        """Start what can start of the pending jobs; says whether there was anything."""
        before = len(self.pending)
        awaited = {run for worker in self.workers for run in worker.open.values()}
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
        free = len(ready) if self.limit is None else self.limit - len(self.workers)
        starting = []
        for job in ready[:free]:
            self.pending.remove(job)
            runs = self._unclaimed(job)
            if runs:
                starting.append(Job(runs, job.after))
        if starting:
            self.launch(starting, len(ready) - len(ready[:free]))
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

    # --- listening --------------------------------------------------------------------

    def take(self, worker: W, event: dict[str, Any]) -> None:
        """Do what an event asks for, and show it."""
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
            worker.started |= kind == "job"
            worker.loaded &= kind != "job"  # a scheduler starts one again whose node died
            if kind in LAST_WORDS:
                run = worker.open.pop(event["run"])
                if kind != "done":
                    self.hopeless.add(run)
            self.report(event)

    def ended(self, worker: W, how: str) -> None:
        """A worker is no more: what it had not said is read from its runs' folders.

        Args:
            worker: whose process has ended and who will say no more.
            how: why, for the runs that it has lost.
        """
        self.workers.remove(worker)
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
            reason = worker.crash or how
            self.report({"kind": "lost", "runs": [r.name for r in lost], "reason": reason})

    # --- what other processes do ------------------------------------------------------

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
