"""Worker processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job, balance

Report = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: every worker has written its checkpoints and left."""


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

        Raises:
            Interrupted: on Ctrl-C or SIGTERM.
            UserError: what no run can go on without is missing.
        """
        devices = self._devices()
        cores = os.cpu_count() or 1
        workers = self.workers or (len(devices) if devices[0] != "cpu" else cores)
        store = Store(self.store_root)
        pending = _waves(jobs, workers)
        context = multiprocessing.get_context("spawn")
        events: Any = context.Queue()
        stop = context.Event()
        running: dict[int, tuple[Any, Job]] = {}
        error: UserError | None = None
        interrupted = False

        def on_signal(number: int, frame: object) -> None:
            nonlocal interrupted
            if interrupted:  # the second one: leave at once
                for process, _ in running.values():
                    process.kill()
                os._exit(130)
            interrupted = True
            stop.set()

        previous = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        serial = 0
        try:
            while pending or running:
                if error is None and not interrupted:
                    pending = [j for j in pending if not _hopeless(j, store, report)]
                    ready = [j for j in pending if j.after is None or _done(j.after, store)]
                    for job in ready[: workers - len(running)]:
                        at_once = min(workers, len(running) + len(ready))
                        threads = self.threads or max(1, cores // max(1, at_once))
                        args = (
                            serial, job, str(self.store_root), str(self.data_root),
                            devices[serial % len(devices)], threads, self.checkpoint_minutes,
                            events, stop,
                        )  # fmt: skip
                        process = context.Process(target=_work, args=args, daemon=True)
                        process.start()
                        running[serial] = (process, job)
                        pending.remove(job)
                        serial += 1
                elif not running:
                    break
                if not running:
                    break  # what is left waits for a teacher that another process trains
                try:
                    event = events.get(timeout=0.2)
                except queue.Empty:
                    event = None
                if event is not None:
                    if event["kind"] == "job_ended":
                        process, _ = running.pop(event["job"])
                        process.join()
                        if event["error"] is not None:
                            error = error or UserError(event["error"])
                            stop.set()
                    else:
                        report(event)
                    continue
                for number, (process, job) in list(running.items()):
                    if not process.is_alive() and events.empty():
                        del running[number]
                        report(
                            {
                                "kind": "lost",
                                "runs": [r.name for r in job.runs],
                                "reason": f"its process ended with {process.exitcode}",
                            }
                        )
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if error is not None:
            raise error
        if interrupted:
            raise Interrupted

    def _devices(self) -> list[str]:
        if self.device is not None:
            return [self.device]
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]


def _waves(jobs: list[Job], workers: int) -> list[Job]:
    """Balance the jobs that can run side by side: teachers, then the others."""
    awaited = {job.after for job in jobs if job.after is not None}
    first = [j for j in jobs if j.runs[0] in awaited]
    rest = [j for j in jobs if j.runs[0] not in awaited]
    return [*first, *balance(rest, workers)]


def _done(run: Any, store: Store) -> bool:
    return store.folder(run).state == "done"


def _hopeless(job: Job, store: Store, report: Report) -> bool:
    """Whether the job's teacher has failed; its runs are then reported as waiting for it."""
    if job.after is None or store.folder(job.after).state != "failed":
        return False
    for run in job.runs:
        report(
            {"kind": "failed", "run": run.name, "reason": f"its teacher {job.after.name} failed"}
        )
    return True


def _work(
    serial: int, job: Job, store_root: str, data_root: str, device: str, threads: int,
    checkpoint_minutes: float, events: Any, stop: Event,
) -> None:  # fmt: skip
    """A worker process: train one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, through ``stop``
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    error = None
    parent = os.getppid()
    try:
        import torch

        from wcordbench.training.cohort import Cohort, Stopped

        torch.set_num_threads(threads)
        events.put(
            {
                "kind": "job",
                "runs": [r.name for r in job.runs],
                "device": device,
                "threads": threads,
            }
        )
        cohort = Cohort(
            list(job.runs),
            Store(store_root),
            Path(data_root),
            torch.device(device),
            events.put,
            lambda: stop.is_set() or os.getppid() != parent,
            checkpoint_minutes,
        )
        try:
            cohort.train()
        except Stopped:
            pass
    except UserError as caught:
        error = str(caught)
    except BaseException:
        events.put(
            {
                "kind": "lost",
                "runs": [r.name for r in job.runs],
                "reason": traceback.format_exc(),
            }
        )
    events.put({"kind": "job_ended", "job": serial, "error": error})
    events.close()
    events.join_thread()
