"""What takes a training's events and shows them elsewhere: one interface, a file each.

A listener is called with every event of a training (see :class:`wcordbench.cli.progress.Progress`
for their kinds) and closed at its end. :func:`replay` gives the events of finished runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run

#: an event's key to the scalar's name
SCALARS = {
    "train_loss": "loss/train", "test_loss": "loss/test", "train_top1": "top1/train",
    "test_top1": "top1/test", "test_auc": "auc/test", "learning_rate": "learning_rate",
    "seconds": "seconds",
}  # fmt: skip


class Listener(Protocol):
    """Takes events; may be closed once."""

    def __call__(self, event: dict[str, Any]) -> None:
        """One event."""

    def close(self) -> None:
        """Finish what is open."""


def scalars(event: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """An epoch's number, from 1 (first stages count below that), and its scalars by name."""
    return event["epoch"] + 1, {name: event[key] for key, name in SCALARS.items() if key in event}


def listeners(
    suite: str,
    runs: Iterable[Run],
    tensorboard: Path | None = None,
    wandb: str | None = None,
    mlflow: str | None = None,
) -> list[Listener]:
    """The listeners that a user's flags ask for.

    Args:
        suite: its name; MLflow's experiment is named by it.
        runs: what will be told of.
        tensorboard: what ``tensorboard --logdir`` is given.
        wandb: a project of Weights & Biases.
        mlflow: a tracking URI of MLflow, or a folder.

    Raises:
        UserError: a package is missing, or its service or folder cannot be used.
    """
    found: list[Listener] = []
    configs = {run.name: run.config for run in runs}
    with contextlib.ExitStack() as undo:
        if tensorboard is not None:
            from wcordbench.reporting.tensorboard import TensorBoard

            found.append(TensorBoard(tensorboard))
            undo.callback(found[-1].close)
        if wandb is not None:
            from wcordbench.reporting.weights_and_biases import WeightsAndBiases

            found.append(WeightsAndBiases(wandb, configs))
            undo.callback(found[-1].close)
        if mlflow is not None:
            from wcordbench.reporting.ml_flow import MLflow

            found.append(MLflow(mlflow, suite, configs))
        undo.pop_all()
    return found


def replay(runs: Iterable[Run], store: Store, to: Iterable[Listener]) -> int:
    """Tell listeners of finished runs, as their training did.

    Returns:
        How many runs are finished.

    Raises:
        UserError: a record is damaged.
    """
    count = 0
    for run in dict.fromkeys(runs):
        folder = store.folder(run)
        if folder.state != "done":
            continue
        count += 1
        record = folder.result()
        for epoch in folder.read_json("metrics.json"):
            for listener in to:
                listener({"kind": "epoch", "run": run.name, **epoch})
        for listener in to:
            listener({"kind": "done", "run": run.name, "top1": record["scores"]["top1"]})
    return count


def missing(flag: str, package: str) -> UserError:
    """The error for a package that is not installed."""
    extra = "mlflow" if package == "mlflow" else package
    return UserError(
        f"--{flag} needs the {package} package; install it with: pip install 'wcordbench[{extra}]'"
    )


__all__ = ["SCALARS", "Listener", "listeners", "missing", "replay", "scalars"]
