"""Weights from files: which file it is, and those that a run's training begins with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from wcordbench import models
from wcordbench.errors import UserError
from wcordbench.results.store import file_sha256
from wcordbench.training.learner import Learner


def checked_sha256(path: Path, what: str, expected: str | None, remedy: str) -> str:
    """A weights file's SHA-256.

    Args:
        path: the file.
        what: the weights are, for messages.
        expected: what it must be.
        remedy: what to do about another one.

    Raises:
        UserError: the file cannot be read, or is another.
    """
    try:
        found = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}, {what}, cannot be read ({error.strerror}); {remedy}") from None
    if found != expected:
        raise UserError(
            f"{path}, {what}, is not the file that it was (its SHA-256 differs); {remedy}"
        )
    return found


def begin_pretrained(learner: Learner, note: Callable[[str], None]) -> None:
    """Load the weights that a run's training begins with, where it has yet to begin.

    Args:
        learner: of any run.
        note: told what may take long.

    Raises:
        UserError: they cannot be had, or do not fit the network.
    """
    asked = learner.run.config.get("pretrained")
    if not asked or (learner.epoch, learner.step) != (-learner.first_epochs, 0):
        return
    student: Any = learner.student
    if asked is True:
        note(f"{learner.run.config['model']}: its pretrained weights, downloaded on first use")
        student.load_pretrained()
        return
    if learner.run.checkpoint is None:
        raise ValueError(f"{learner.run.name} begins with the weights of a file, and has none")
    path = Path(learner.run.checkpoint)
    checked_sha256(path, "the pretrained weights", asked, "run again if the new file is meant")
    models.load_checkpoint(student, path, transfer=True)
