"""Taking in another machine's results."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from wcordbench.errors import UserError
from wcordbench.results import evaluations
from wcordbench.results.store import (
    SESSIONS,
    RunBusyError,
    RunFolder,
    StorageError,
    Store,
    write_atomic,
)
from wcordbench.results.verify import FILES, Claims, Finding, check

#: what a finished or undefined run's folder is copied as
COPIED = FILES - {"checkpoint.pt", ".lease", ".lease.json"}


@dataclass
class Merged:
    """What became of another folder's runs, by name.

    Attributes:
        taken: copied.
        known: the same result was here already.
        completed: those of ``known`` that lacked weights or measurements, which were copied.
        unfinished: neither done nor "N/A" there.
        refused: not taken, and why.
    """

    taken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)


def merge(theirs: Store, ours: Store) -> Merged:
    """Copy finished runs that hold what they claim and contradict nothing here.

    Each run is verified as :func:`wcordbench.results.verify.verify` does: a student's teacher must
    be the teacher that is here, or that taught the students here, and all runs of a dataset must
    have seen the images that the runs here have. What nothing here says, theirs say. A run appears
    whole or not at all. A run that is here with the same result gets the weights and measurements
    that it lacks.

    Raises:
        StorageError: our folder cannot be written.
    """
    found = Merged()
    claims = Claims(ours.folders()).before(Claims(theirs.folders()))
    for folder in theirs.folders():
        name = folder.path.name
        try:
            state = folder.state
        except UserError as error:
            found.refused.append(Finding(folder.path / "failure.json", str(error)))
            continue
        if state not in ("done", "undefined"):
            found.unfinished.append(name)
            continue
        wrong = check(folder, claims)
        if wrong:
            found.refused += wrong
            continue
        here = RunFolder(ours.root / "runs" / name)
        if here.path.is_dir() and here.held():
            found.refused.append(Finding(folder.path, "is being trained here at this moment"))
        elif here.state in ("done", "undefined"):
            if _same(folder, here):
                found.known.append(name)
                if state == "done":
                    _complete(folder, here, found)
            else:
                reason = f"differs from the result that {ours.root} has; forget one of the two"
                found.refused.append(Finding(folder.path, reason))
        elif state == "done" and not claims.agree(folder.result(best=False)):
            reason = f"has other weights than those that taught the students in {ours.root}"
            found.refused.append(Finding(folder.path, reason))
        else:
            _copy(folder, here, ours)
            found.taken.append(name)
    return found


def _same(one: RunFolder, other: RunFolder) -> bool:
    """Whether two folders hold the same outcome, whenever and wherever it was trained."""
    if one.state != other.state:
        return False
    if one.state == "undefined":
        return True
    a, b = one.result(), other.result()
    return all(a.get(k) == b.get(k) for k in ("id", "scores", "weights_sha256"))


def _complete(source: RunFolder, here: RunFolder, found: Merged) -> None:
    """Give a run what another copy of it has beside the result."""
    weights, target = source.path / "student.pt", here.path / "student.pt"
    theirs = evaluations.evaluations(source)
    try:
        ours = evaluations.evaluations(here)
        lacks = weights.is_file() and not target.is_file()
        if lacks or theirs.keys() - ours.keys():
            with here.lease(sign=False):
                ours = evaluations.evaluations(here)  # one may have been measured meanwhile
                if lacks:
                    write_atomic(target, weights.read_bytes())
                if theirs.keys() - ours.keys():
                    evaluations.write(here, {**theirs, **ours})
            found.completed.append(here.path.name)
    except RunBusyError:
        found.refused.append(Finding(source.path, "is held here by another process"))
        return
    except StorageError:
        raise
    except UserError as error:  # our own measurements are damaged
        found.refused.append(Finding(here.path / evaluations.FILE, str(error)))
        return
    for name in sorted(theirs.keys() & ours.keys()):
        if any(theirs[name].get(k) != ours[name].get(k) for k in ("scores", "dataset_fingerprint")):
            reason = (
                f"measured {name!r} otherwise than the run in {here.path}; forget one of the two"
            )
            found.refused.append(Finding(source.path / evaluations.FILE, reason))


def _copy(source: RunFolder, target: RunFolder, store: Store) -> None:
    store.prepare()
    sessions = store.root / SESSIONS
    try:
        sessions.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=sessions) as temporary:
            whole = Path(temporary) / target.path.name
            whole.mkdir()
            for path in source.path.iterdir():
                if path.name in COPIED:
                    shutil.copyfile(path, whole / path.name)
            if target.path.is_dir():  # begun or failed here: theirs is finished
                shutil.rmtree(target.path)
            whole.rename(target.path)
    except OSError as error:
        raise StorageError(
            f"{target.path} cannot be written ({error.strerror or error}); free space or give"
            " another place with --results"
        ) from None


__all__ = ["Merged", "merge"]
