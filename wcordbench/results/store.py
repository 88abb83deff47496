"""The run store: one folder a run, plain files, each written whole or not at all.

What a folder holds says what state the run is in::

    result.json    finished; the last file written
    failure.json   failed, with its reason and traceback
    checkpoint.pt  begun, and can be resumed
    run.json       the configuration; its hash is the run's identity
    metrics.json   one record an epoch
    student.pt     the trained weights, {"model": state_dict}
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock

from wcordbench.errors import UserError
from wcordbench.suite.runs import Run, digest

FORMAT = 1
State = Literal["done", "failed", "undefined", "begun", "missing"]


class RunBusy(Exception):
    """Another process is training this run."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old or the new one, whole.

    Raises:
        UserError: the disk is full, or the folder is read-only or gone.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.tmp-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); free space or give another place"
            " with --results, then run again: finished runs are kept"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def to_json(value: Any) -> bytes:
    """The one way results are written: indented, keys sorted, numbers exact."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class RunFolder:
    """One run's folder.

    Attributes:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def state(self) -> State:
        if (self.path / "result.json").is_file():
            return "done"
        if (self.path / "failure.json").is_file():
            kind = self.read_json("failure.json").get("kind")
            return "undefined" if kind == "undefined" else "failed"
        return "begun" if (self.path / "run.json").is_file() else "missing"

    def read_json(self, name: str) -> Any:
        """Read one of the folder's files.

        Raises:
            UserError: the file is damaged or of a newer version.
        """
        file = self.path / name
        try:
            value = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{file} is missing; delete {self.path} to train the run again"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file} is damaged ({error}); delete {self.path} to train the run again"
            ) from None
        if isinstance(value, dict) and value.get("format", FORMAT) > FORMAT:
            raise UserError(
                f"{file} was written by a newer wcordbench (format {value['format']}, this one"
                f" reads {FORMAT}); upgrade wcordbench"
            )
        return value

    def result(self) -> dict[str, Any]:
        """The finished run's record: configuration, scores, provenance.

        Raises:
            UserError: the record is damaged, or its configuration is not the one that its
                identity was computed from.
        """
        record: dict[str, Any] = self.read_json("result.json")
        try:
            agrees = digest(record["config"]) == record["id"] and "top1" in record["scores"]
        except (KeyError, TypeError):
            agrees = False
        if not agrees:
            raise UserError(
                f"{self.path / 'result.json'} does not agree with its own identity: it was changed"
                f" by hand; delete {self.path} to train the run again"
            )
        return record

    def begin(self, run: Run) -> None:
        """Create the folder and write the configuration."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"results folder {self.path} cannot be made ({error.strerror}); give another"
                " place with --results"
            ) from None
        if not (self.path / "run.json").is_file():
            write_atomic(
                self.path / "run.json",
                to_json({"id": run.id, "config": run.config, "format": FORMAT}),
            )

    def write_metrics(self, metrics: list[dict[str, Any]]) -> None:
        """Replace the per-epoch metrics."""
        write_atomic(self.path / "metrics.json", to_json(metrics))

    def finish(self, record: dict[str, Any]) -> None:
        """Mark the run done; the checkpoint, no longer needed, goes."""
        write_atomic(self.path / "result.json", to_json({**record, "format": FORMAT}))
        for name in ("checkpoint.pt", "failure.json"):
            (self.path / name).unlink(missing_ok=True)

    def fail(self, kind: str, reason: str, traceback: str = "") -> None:
        """Mark the run failed (``diverged``, ``error``, ``memory``) or ``undefined``."""
        write_atomic(
            self.path / "failure.json",
            to_json({"kind": kind, "reason": reason, "traceback": traceback, "format": FORMAT}),
        )

    def retry(self) -> None:
        """Forget a failure, and the checkpoint that led to it."""
        for name in ("failure.json", "checkpoint.pt"):
            (self.path / name).unlink(missing_ok=True)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one of the folder's files."""
        write_atomic(self.path / name, data)

    def write_sealed(self, name: str, payload: bytes) -> None:
        """Write a file that carries its own SHA-256; it replaces the old one once proven whole."""
        seal = hashlib.sha256(payload).hexdigest().encode() + b"\n"
        write_atomic(self.path / name, seal + payload)

    def read_sealed(self, name: str) -> io.BytesIO | None:
        """What :meth:`write_sealed` wrote, or None if there is none or it is not whole."""
        try:
            data = (self.path / name).read_bytes()
        except OSError:
            return None
        seal, _, payload = data.partition(b"\n")
        if hashlib.sha256(payload).hexdigest().encode() != seal:
            return None
        return io.BytesIO(payload)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run; the operating system lets go when the process ends, however it ends.

        Raises:
            RunBusy: another process holds it.
        """
        lock = filelock.FileLock(self.path / ".lease")
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            raise RunBusy(self.path.name) from None
        try:
            yield
        finally:
            lock.release()


class Store:
    """All runs of a results folder."""

    def __init__(self, root: str | Path = "results") -> None:
        self.root = Path(root)

    def folder(self, run: Run) -> RunFolder:
        """Where a run is, or will be."""
        return RunFolder(self.root / "runs" / run.name)

    def folders(self) -> list[RunFolder]:
        """Every run there is, by name."""
        runs = self.root / "runs"
        return [RunFolder(p) for p in sorted(runs.iterdir()) if p.is_dir()] if runs.is_dir() else []
