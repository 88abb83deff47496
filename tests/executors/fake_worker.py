"""A worker process without torch: what it does is told by the method's name of each run.

The executor starts it in place of its own (`tests/executors/test_session.py`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from wcordbench.executors.base import Assignment
from wcordbench.results.store import RunBusyError, Store
from wcordbench.suite.runs import Run

#: the longest that anything here takes, far beyond what a test waits
LONG = 60.0


#: the runs of the job that this process works on
JOB: list[Run] = []


def make_run(model: str, behaviour: str, teacher: Run | None = None, seed: int = 0) -> Run:
    """A run that behaves as its method's name says."""
    config = {
        "dataset": {"name": "none"},
        "model": model,
        "teacher": None
        if teacher is None
        else {"model": teacher.config["model"], "run": teacher.id},
        "method": {"name": behaviour, "terms": []},
        "train": {"epochs": 1, "batch_size": 1, "augment": {}, "precision": "fp32"},
        "seed": seed,
    }
    return Run(config, teacher)


def finish(store: Store, run: Run, top1: float = 50.0) -> None:
    """Mark a run done."""
    folder = store.folder(run)
    folder.begin(run)
    folder.finish({"id": run.id, "config": run.config, "scores": {"top1": top1}})


def work(connection: Connection, assignment: Assignment) -> None:
    """Behave as the runs of the job say, one after the other."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    store, job = Store(assignment.store_root), assignment.job
    JOB[:] = job.runs

    def report(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            connection.send(event)

    names = [r.name for r in job.runs]
    where = {"device": assignment.device, "threads": assignment.threads, "pid": os.getpid()}
    report({"kind": "job", "runs": names, **where})
    for run in job.runs:
        folder = store.folder(run)
        try:
            with folder.lease():
                folder.begin(run)
                behave(run, connection, report, store)
        except RunBusyError:
            report({"kind": "busy", "run": run.name})
    connection.close()


def behave(run: Run, connection: Connection, report: Any, store: Store) -> None:
    behaviour = run.config["method"]["name"]
    folder = store.folder(run)
    if behaviour == "load":  # for ever, and deaf
        time.sleep(LONG)
    report({"kind": "loaded"})
    if behaviour == "train":
        finish(store, run)
        report({"kind": "done", "run": run.name, "top1": 50.0})
    elif behaviour == "listen":  # trains until it is told to stop, then saves
        if connection.poll(LONG):
            folder.write_sealed("checkpoint.pt", b"saved")
    elif behaviour == "deaf":
        time.sleep(LONG)
    elif behaviour == "fail":
        folder.fail("error", "it failed")
        report({"kind": "failed", "run": run.name, "reason": "it failed"})
    elif behaviour == "quiet":  # done, but killed before it could say so
        finish(store, run)
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "cut":  # killed in the middle of a word
        os.write(connection.fileno(), (1000).to_bytes(4, "big") + b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    elif behaviour == "leave":  # SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)
    elif behaviour == "memory":  # too large for a cohort, not for the device
        if len(JOB) > 1:
            report({"kind": "memory", "run": run.name, "reason": "out of memory"})
        else:
            finish(store, run)
            report({"kind": "done", "run": run.name, "top1": 50.0})
    elif behaviour == "crash":
        report({"kind": "crash", "reason": "Traceback\nRuntimeError: no"})
    elif behaviour == "error":
        time.sleep(1)  # the others listen by now
        report({"kind": "error", "reason": "the data are missing; fetch them"})
    elif behaviour == "leave-quietly":
        pass
    else:
        raise AssertionError(behaviour)
