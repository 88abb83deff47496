"""The run store: one folder a run, plain files, each written whole or not at all.

What a folder holds says what state the run is in::

    result.json    finished; the last file written
    failure.json   failed or undefined, with the reason and a traceback
    checkpoint.pt  begun, and can be resumed
    run.json       the configuration; its hash is the run's identity
    metrics.json   one record an epoch
    student.pt     the trained weights, {"model": state_dict}
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock

from wcordbench.errors import UserError
from wcordbench.locks import file_lock
from wcordbench.results.groups import check_order, order_of, put_in_order
from wcordbench.results.stray import is_stray
from wcordbench.suite.runs import Run, digest

FORMAT = 1
LEASE = ".lease"
#: who holds the lease, see ``RunFolder.holder``; means nothing while the lease is free
HOLDER = ".lease.json"
#: the remedy for a checkpoint that cannot be continued
ANEW = "--retry-failed trains the run anew"
#: in the results folder, while an executor runs: what it and its workers tell each other
SESSIONS = ".sessions"
State = Literal["done", "failed", "undefined", "begun", "missing"]


class RunBusyError(Exception):
    """Another process is training this run."""


class StorageError(UserError):
    """The results folder cannot be written: no run can go on."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old or the new one, whole.

    Raises:
        StorageError: the disk is full, or the folder is read-only or gone.
    """
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # The old file goes only once the new one is proven readable.
        if temporary.read_bytes() != data:
            raise OSError(errno.EIO, "what was written reads back differently")
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror or error}); free space or give another"
            " place with --results, then run again: finished runs are kept"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def to_json(value: Any) -> bytes:
    """The one way results are written: indented, keys sorted, numbers exact."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunFolder:
    """One run's folder.

    Attributes:
        path: the folder; it need not exist yet.
        groups: the order of ``task.groups`` of the suite that asks for the run; empty where its
            task has none, or no suite asks.
    """

    def __init__(self, path: Path, groups: tuple[str, ...] = ()) -> None:
        self.path, self.groups = path, groups

    @property
    def state(self) -> State:
        """What the files say; see the module.

        Raises:
            UserError: ``failure.json`` is damaged.
        """
        if (self.path / "result.json").is_file():
            return "done"
        if (self.path / "failure.json").is_file():
            return "undefined" if self.failure()["kind"] == "undefined" else "failed"
        return "begun" if (self.path / "run.json").is_file() else "missing"

    def read_json(self, name: str) -> Any:
        """Read one of the folder's files.

        Raises:
            UserError: the file is missing, damaged or of a newer version.
        """
        file = self.path / name
        try:
            value = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{file} is missing; delete {self.path} to train the run again"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{file} is damaged ({error}); delete {self.path} to train the run again"
            ) from None
        written = value.get("format", FORMAT) if isinstance(value, dict) else FORMAT
        if not isinstance(written, int) or written > FORMAT:
            raise UserError(
                f"{file} was written by a newer wcordbench (format {written}, this one"
                f" reads {FORMAT}); upgrade wcordbench"
            )
        return value

    def failure(self) -> dict[str, Any]:
        """Why the run has no result: ``kind``, ``reason`` and ``traceback``.

        Raises:
            UserError: the record is missing or damaged.
        """
        record = self.read_json("failure.json")
        if not isinstance(record, dict) or not {"kind", "reason"} <= record.keys():
            raise UserError(
                f"{self.path / 'failure.json'} is damaged (it has no kind and reason); delete"
                f" {self.path} to train the run again"
            )
        return record

    def result(self, best: bool = True) -> dict[str, Any]:
        """The finished run's record: configuration, scores, provenance.

        The groups of a task are in the order that numbered the classes, where it records that.

        Args:
            best: whether the best epoch's accuracy is wanted: a table of thousands of runs
                that does not show it need not look through all of their epochs.

        Raises:
            UserError: the record is missing or damaged, its configuration is not the one
                that its identity was computed from or not this folder's, its scores are
                not those of ``metrics.json``, or the suite numbers its classes otherwise.
        """
        record = self.read_json("result.json")
        order: tuple[str, ...] = ()
        try:
            reason = self._contradiction(record, best)
            order = () if reason is not None else put_in_order(record)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            reason = "a part of it is missing or is not what it should be"
        if reason is not None:
            raise UserError(
                f"{self.path / 'result.json'} was changed after it was written ({reason});"
                f" delete {self.path} to train the run again"
            )
        check_order(self.path / "result.json", order, self.groups)
        return dict(record)

    def _contradiction(self, record: dict[str, Any], best: bool) -> str | None:
        if digest(record["config"]) != record["id"]:
            return "its configuration does not have the identity that it records"
        if not self.path.name.endswith(record["id"][:8]):
            return "it belongs to another run"
        top1 = record["scores"]["top1"]
        if not isinstance(top1, int | float) or not 0 <= top1 <= 100:
            return f"its top1 is {top1!r}"
        fingerprint = record.get("dataset_fingerprint", "")
        if not isinstance(fingerprint, str):
            return f"its dataset_fingerprint is {fingerprint!r}"
        metrics = self.path / "metrics.json"
        if metrics.is_file() and "metrics_sha256" in record:
            data = metrics.read_bytes()
            if hashlib.sha256(data).hexdigest() != record["metrics_sha256"]:
                return "metrics.json is not the file whose SHA-256 it records"
            # Not the whole file: thousands of runs of hundreds of epochs take seconds to parse.
            last = json.loads(data[data.rindex(b"{") : data.rindex(b"}") + 1])
            for score, value in record["scores"].items():
                if score != "best_top1":
                    found = last.get(f"test_{score}")
                elif best:
                    found = max(map(float, re.findall(rb'"test_top1": ([^,\s}]+)', data)))
                else:
                    continue
                if value != found:
                    return f"its {score} is not that of the last epoch in metrics.json"
        return None

    def make(self) -> None:
        """Create the folder.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"results folder {self.path} cannot be made ({error.strerror or error}); give"
                " another place with --results"
            ) from None

    def begin(self, run: Run) -> None:
        """Create the folder and write the configuration, if that has not been done.

        Raises:
            StorageError: the folder cannot be made or written.
            UserError: the folder is another run's, of a newer version, or damaged, or was begun
                with the groups of its task in another order.
        """
        self.make()
        record = {"id": run.id, "config": run.config, "format": FORMAT}
        order = order_of(run.config)
        if not (self.path / "run.json").exists():
            # Keys are sorted, and the order of the groups numbers the classes.
            self.write_bytes("run.json", to_json(record | ({"groups": order} if order else {})))
            return
        found = self.read_json("run.json")
        if not isinstance(found, dict) or {**found, "groups": 0} != {**record, "groups": 0}:
            raise UserError(
                f"{self.path / 'run.json'} was changed after it was written; delete {self.path}"
                " to train the run again"
            )
        check_order(self.path / "run.json", put_in_order(found), order)

    def write_metrics(self, metrics: list[dict[str, Any]]) -> None:
        """Replace the per-epoch metrics."""
        self.write_bytes("metrics.json", to_json(metrics))

    def finish(self, record: dict[str, Any]) -> None:
        """Mark the run done; the checkpoint, no longer needed, goes."""
        self.write_bytes("result.json", to_json({**record, "format": FORMAT}))
        self.tidy()

    def tidy(self) -> None:
        """Remove what a finished run has no use for; a crash just before may have left it."""
        if (self.path / "result.json").is_file():
            for name in ("checkpoint.pt", "failure.json"):
                with contextlib.suppress(OSError):  # the run is done with or without them
                    (self.path / name).unlink(missing_ok=True)

    def fail(self, kind: str, reason: str, traceback: str = "", own: bool = True) -> None:
        """Mark the run failed (``diverged``, ``error``, ``memory``) or ``undefined``.

        Args:
            kind, reason, traceback: how, in short and in full.
            own: whether its checkpoint may have led to it; not so where memory was short, or what
                it shares with others (the images, the teacher) failed.
        """
        record = {"kind": kind, "reason": reason, "traceback": traceback, "format": FORMAT}
        self.write_bytes("failure.json", to_json(record | ({} if own else {"own": False})))

    def retry(self) -> None:
        """Forget a failure, and the checkpoint where that may have led to it.

        Raises:
            StorageError: they cannot be removed.
        """
        goes = ["checkpoint.pt", "failure.json"]
        with contextlib.suppress(UserError):  # a damaged record says nothing
            if (self.path / "failure.json").is_file() and self.failure().get("own") is False:
                goes.remove("checkpoint.pt")
        try:
            for name in goes:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.path} cannot be written ({error.strerror or error}); give another place"
                " with --results"
            ) from None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one of the folder's files; every file of the folder is written by this."""
        write_atomic(self.path / name, data)

    def write_sealed(self, name: str, payload: bytes) -> None:
        """Write a file that carries its own SHA-256."""
        seal = hashlib.sha256(payload).hexdigest().encode() + b"\n"
        self.write_bytes(name, seal + payload)

    def read_sealed(self, name: str) -> io.BytesIO | None:
        """What :meth:`write_sealed` wrote, or None if there is none.

        Raises:
            UserError: it is not what was written; a crash cannot be why, so that it is left
                for the user to look at.
        """
        file = self.path / name
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); {ANEW}") from None
        seal, _, payload = data.partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != seal:
            raise UserError(f"{file} is not the file whose SHA-256 it begins with; {ANEW}")
        return io.BytesIO(payload)

    @contextlib.contextmanager
    def lease(self, sign: bool = True, who: dict[str, Any] | None = None) -> Iterator[None]:
        """Hold the run; the operating system lets go when the process ends, however it ends.

        The folder is created; what a killed holder left half-written is removed.

        Args:
            sign: leave word of who holds it: host, process and since when.
            who: more to say of the holder, or another host and process than these.

        Raises:
            RunBusyError: another process holds it.
            StorageError: the folder cannot be made or locked.
        """
        self.make()
        lock = file_lock(self.path / LEASE)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise RunBusyError(self.path.name) from None
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StorageError(
                f"{self.path / '.lease'} cannot be locked ({reason}); give a place on another"
                " file system with --results"
            ) from None
        try:
            for stale in self.path.glob(".*.tmp-*"):
                with contextlib.suppress(OSError):
                    stale.unlink()
            if sign:
                holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
                holder |= who or {}
                with contextlib.suppress(OSError):  # for people only
                    (self.path / HOLDER).write_bytes(to_json(holder))
            yield
        finally:
            if sign:
                with contextlib.suppress(OSError):
                    (self.path / HOLDER).unlink()
            lock.release()

    def held(self) -> bool:
        """Whether a process, another one or this, is training the run at this moment.

        Who may not write here, and so cannot try the lock, takes the holder's word for it.
        """
        if not (self.path / LEASE).is_file():
            return False
        try:
            with self.lease(sign=False):
                return False
        except RunBusyError:
            return True
        except StorageError:
            return (self.path / HOLDER).is_file()

    def holder(self) -> dict[str, Any] | None:
        """Host, process, device and since when (seconds since 1970) of who trains the run.

        None if nobody is; an empty record if somebody is who left no word.
        """
        if not self.held():
            return None
        try:
            record = json.loads((self.path / HOLDER).read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


class Store:
    """All runs of a results folder.

    Args:
        root: the folder; it need not exist yet.
    """

    def __init__(self, root: str | Path = "results") -> None:
        self.root = Path(root)

    def prepare(self) -> None:
        """Make the folder and prove that it can be written.

        Raises:
            StorageError: it cannot.
        """
        runs = self.root / "runs"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=runs) as file:
                file.write(b"x")
        except OSError as error:
            raise StorageError(
                f"results folder {self.root} cannot be written ({error.strerror or error}); give"
                " another place with --results"
            ) from None

    def folder(self, run: Run) -> RunFolder:
        """Where a run is, or will be."""
        return RunFolder(self.root / "runs" / run.name, order_of(run.config))

    def folders(self) -> list[RunFolder]:
        """Every run there is, by name."""
        runs = self.root / "runs"
        if not runs.is_dir():
            return []
        paths = [p for p in sorted(runs.iterdir()) if p.is_dir() and not is_stray(p.name)]
        return [RunFolder(p) for p in paths]
