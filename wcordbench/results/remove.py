"""Removing runs from a store."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from wcordbench.errors import UserError
from wcordbench.results.store import LEASE, RunBusyError, RunFolder, StorageError, Store


def check_removable(folders: Iterable[RunFolder], store: Store) -> None:
    """Refuse what others need or use.

    Raises:
        UserError: a run is being trained, or taught one that stays: finished, in training or to be
            resumed.
    """
    folders = list(folders)
    going = {folder.path.name for folder in folders}
    for folder in folders:
        if folder.held():
            raise UserError(f"{folder.path.name} is being trained; stop that, or wait for it")
    ends = {name[-8:]: name for name in going}
    for other in store.folders():
        if other.path.name in going:
            continue
        if other.state == "done":
            config = other.result(best=False)["config"]
        elif _begun(other):
            config = other.read_json("run.json")["config"]
        else:
            continue
        teacher = config["teacher"] or {}
        name = ends.get(str(teacher.get("run", ""))[:8])
        if name is not None:
            raise UserError(
                f"{name} taught {other.path.name}, which stays; forget that as well, or leave the"
                " teacher"
            )


def _begun(folder: RunFolder) -> bool:
    """Whether a run that is not finished has been taught, or is at this moment."""
    if not (folder.path / "run.json").is_file():
        return False
    return (folder.path / "checkpoint.pt").is_file() or folder.held()


def remove(folder: RunFolder) -> None:
    """Remove a run: its result first, so that a crash leaves it as one that is to be trained.

    Raises:
        UserError: it is being trained.
        StorageError: it cannot be removed.
    """
    try:
        with folder.lease(sign=False):
            for name in ("result.json", "failure.json", "checkpoint.pt", "student.pt"):
                (folder.path / name).unlink(missing_ok=True)
            for path in folder.path.iterdir():
                if path.name != LEASE:
                    path.unlink()
        shutil.rmtree(folder.path)
    except RunBusyError:
        raise UserError(f"{folder.path.name} is being trained; stop that, or wait for it") from None
    except OSError as error:
        raise StorageError(f"{folder.path} cannot be removed ({error.strerror or error})") from None


__all__ = ["check_removable", "remove"]
