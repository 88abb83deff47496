"""Whether finished teachers can teach."""

from __future__ import annotations

from collections.abc import Iterable

from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.runs import Run


def check_weights(teacher: RunFolder) -> None:
    """See that a finished teacher's weights are there.

    Raises:
        UserError: they are not; a clone of results may leave them out.
    """
    path = teacher.path / "student.pt"
    if not path.is_file():
        raise UserError(
            f"{path}, the teacher's weights, is missing; copy it there from where the teacher was"
            f" trained, or delete {teacher.path} to train the teacher again (its other students"
            " are then not comparable with those to come, unless wcordbench rerun says that it"
            " gives the same bits)"
        )


def check_teachers(runs: Iterable[Run], store: Store) -> None:
    """See that the finished teachers of runs that are to be trained can teach them.

    Raises:
        UserError: see :func:`check_weights`.
    """
    for teacher in dict.fromkeys(run.teacher for run in runs if run.teacher is not None):
        folder = store.folder(teacher)
        if folder.state == "done":
            check_weights(folder)


__all__ = ["check_teachers", "check_weights"]
