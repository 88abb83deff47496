"""Where a Ray cluster's workers report to, and the workers' side of it.

:class:`Home` is an actor on the node of the command. It passes events on and tells workers to
stop. For workers that do not see the results folder it also holds the leases of their runs,
hands out what they start from, and writes every file that they write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray

from wcordbench.executors import base
from wcordbench.executors.base import LAST_WORDS, Assignment
from wcordbench.imports import parcel
from wcordbench.results.provenance import device_of_host
from wcordbench.results.store import SESSIONS, RunBusyError, RunFolder, Store
from wcordbench.suite.plan import Job
from wcordbench.suite.runs import Run

#: seconds between a worker's questions whether it shall stop
ASK = 0.5
#: what a run is resumed from, and what is read of a teacher
BEGUN = ("run.json", "metrics.json", "checkpoint.pt")
TAUGHT = ("result.json", "metrics.json", "student.pt")

Event = dict[str, Any]
Files = dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Parcel:
    """What a worker without the results folder starts from.

    Attributes:
        runs: those of its job that it shall train, and the files of each.
        teacher: the files of their teacher's run.
        checkpoint: the suffix and content of the file that the suite gives as their teacher.
        plugins: source files by name, and what they import of the user's own.
    """

    runs: dict[str, Files]
    teacher: Files
    checkpoint: tuple[str, bytes] | None
    plugins: Files


class Home:
    """The actor; a worker is known by the number of its job, the same at every try.

    Args:
        root: the results folder.
        token: names a file in it by which workers know that they see the same folder.
    """

    def __init__(self, root: str, token: str) -> None:
        self.store, self.sign = Store(root), Path(root) / SESSIONS / token
        self.events: list[tuple[int, Event]] = []
        self.told: set[int] = set()
        #: runs that need no more work, by the number of their job
        self.left: dict[int, set[str]] = {}
        self.leases: dict[int, contextlib.ExitStack] = {}

    def mark(self) -> str:
        """Leave the sign, and say where."""
        self.sign.parent.mkdir(exist_ok=True)
        self.sign.touch()
        return str(self.sign)

    # --- the session's ----------------------------------------------------------------

    def take(self) -> list[tuple[int, Event]]:
        """What has been said since the last call."""
        events, self.events = self.events, []
        return events

    def stop(self, number: int) -> None:
        """A worker shall save and leave."""
        self.told.add(number)

    def release(self, number: int) -> None:
        """A worker is no more."""
        if number in self.leases:
            self.leases.pop(number).close()

    def close(self) -> None:
        """The end: nothing is held, no sign is left."""
        for number in list(self.leases):
            self.release(number)
        self.sign.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another session's are there
            self.sign.parent.rmdir()

    # --- the workers' -----------------------------------------------------------------

    def begin(self, number: int, names: list[str]) -> set[str]:
        """A worker starts; returns the runs that an earlier try has already settled."""
        if number in self.left:
            line = f"{', '.join(names)}: its worker was lost; Ray has started another"
            self.events.append((number, {"kind": "note", "line": line}))
        return self.left.setdefault(number, set())

    def post(self, number: int, event: Event) -> None:
        """A worker says something."""
        if event["kind"] in (*LAST_WORDS, "busy", "memory"):
            self.left[number].add(event["run"])
        self.events.append((number, event))

    def shall_stop(self, number: int) -> bool:
        """A worker asks."""
        return number in self.told

    def claim(self, number: int, job: Job, plugins: list[str], who: dict[str, Any]) -> Parcel:
        """Hold the runs of a job for a worker; what it needs to train those that are free.

        Raises:
            UserError: a file cannot be read or the results folder cannot be written.
        """
        self.release(number)  # of an earlier try
        leases = self.leases[number] = contextlib.ExitStack()
        runs: dict[str, Files] = {}
        for run in job.runs:
            folder = self.store.folder(run)
            try:
                leases.enter_context(folder.lease(who=who))
            except RunBusyError:
                self.post(number, {"kind": "busy", "run": run.name})
                continue
            if folder.state in ("missing", "begun"):
                runs[run.name] = _read(folder.path, BEGUN)
        teacher = {} if job.after is None else _read(self.store.folder(job.after).path, TAUGHT)
        given = next((r.checkpoint for r in job.runs if r.checkpoint), None)
        return Parcel(
            runs,
            teacher,
            None if given is None else (Path(given).suffix, Path(given).read_bytes()),
            {name: text for p in plugins for name, text in parcel(Path(p)).items()},
        )

    def put(self, run: str, name: str, data: bytes) -> None:
        """Write a file of a run, as the worker has just done.

        Raises:
            StorageError: it cannot be written.
        """
        folder = RunFolder(self.store.root / "runs" / run)
        folder.write_bytes(name, data)
        folder.tidy()


def _read(folder: Path, names: tuple[str, ...]) -> Files:
    return {n: (folder / n).read_bytes() for n in names if (folder / n).is_file()}


# --- in a worker ------------------------------------------------------------------------


class _Line:
    """A worker's line home; where home is gone, the worker shall stop."""

    def __init__(self, home: Any, number: int) -> None:
        self.home, self.number = home, number
        self.last: Any = None
        self.told = False
        self.over = threading.Event()
        # Ray lends the CPUs of a task whose main thread waits for Ray to another task, which
        # then trains beside this one: all waiting is done in another thread.
        self.waiter = ThreadPoolExecutor(1)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while not self.over.wait(ASK):
            try:
                self.told = self.told or self.ask("shall_stop", self.number)
            except (ray.exceptions.RayError, RuntimeError):  # home, or this line, is gone
                self.told = True

    def ask(self, what: str, *arguments: Any) -> Any:
        """Call a method of home's; its errors are raised as they were there."""
        answer = getattr(self.home, what).remote(*arguments)
        try:
            return self.waiter.submit(ray.get, answer).result()
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def report(self, event: Event) -> None:
        """Say something, without waiting for it to be heard."""
        self.last = self.home.post.remote(self.number, event)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.over.set()
        with contextlib.suppress(ray.exceptions.RayError):
            self.waiter.submit(ray.get, self.last).result()  # in order: all have been heard
        self.waiter.shutdown()


def train_here(home: Any, number: int, assignment: Assignment) -> None:
    """Train a job where the results folder is seen."""
    with _Line(home, number) as line:
        left = line.ask("begin", number, [r.name for r in assignment.job.runs])
        job = _without(assignment.job, left)
        base.train(dataclasses.replace(assignment, job=job), line.report, lambda: line.told)


def train_away(home: Any, number: int, assignment: Assignment, scratch: str | None) -> None:
    """Train a job in a scratch folder; every file that is written is sent home.

    Args:
        home: the actor.
        number: of the job.
        assignment: the job.
        scratch: where to make the folder; None is where temporary files go.
    """
    if scratch is not None:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    with (
        _Line(home, number) as line,
        tempfile.TemporaryDirectory(prefix="wcordbench-", dir=scratch) as folder,
    ):
        left = line.ask("begin", number, [r.name for r in assignment.job.runs])
        job = _without(assignment.job, left)
        device = device_of_host(assignment.device)
        who = {"host": socket.gethostname(), "pid": os.getpid(), "device": device}
        try:
            sent = line.ask("claim", number, job, list(map(str, assignment.plugins)), who)
        except Exception as error:
            line.report({"kind": "error", "reason": str(error)})
            return
        store = _Away(Path(folder), line)
        job = store.unpack(sent, job)
        plugins = tuple(store.root / "plugins" / p.name for p in assignment.plugins)
        if job.runs:
            base.train(
                dataclasses.replace(assignment, job=job, plugins=plugins),
                line.report,
                lambda: line.told,
                store,
            )


def _without(job: Job, left: set[str]) -> Job:
    return Job(tuple(r for r in job.runs if r.name not in left), job.after)


class _Away(Store):
    """A scratch store whose files are sent home as they are written."""

    def __init__(self, root: Path, line: _Line) -> None:
        super().__init__(root)
        self.line = line

    def folder(self, run: Run) -> RunFolder:
        return _AwayFolder(super().folder(run).path, self.line)

    def unpack(self, sent: Parcel, job: Job) -> Job:
        """Write what was sent; returns what there is to train."""
        runs = tuple(r for r in job.runs if r.name in sent.runs)
        for run in runs:
            _write(super().folder(run).path, sent.runs[run.name])
        if job.after is not None:
            _write(super().folder(job.after).path, sent.teacher)
        if sent.checkpoint is not None:
            suffix, content = sent.checkpoint
            _write(self.root, {f"teacher{suffix}": content})  # it says how the file is read
            given = str(self.root / f"teacher{suffix}")
            runs = tuple(dataclasses.replace(r, checkpoint=given) for r in runs)
        _write(self.root / "plugins", sent.plugins)
        return Job(runs, job.after)


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)  # a package that a plugin imports
        (folder / name).write_bytes(data)


class _AwayFolder(RunFolder):
    def __init__(self, path: Path, line: _Line) -> None:
        super().__init__(path)
        self.line = line

    def write_bytes(self, name: str, data: bytes) -> None:
        super().write_bytes(name, data)
        self.line.ask("put", self.path.name, name, data)
