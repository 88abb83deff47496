"""Every epoch of every run as TensorBoard's scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting.listener import missing, scalars


class TensorBoard:
    """Takes a training's events and writes what an epoch measured, a folder a run.

    An epoch is told of once, whether its run was interrupted or not, so that a run that is
    continued continues its curves.

    Args:
        folder: what ``tensorboard --logdir`` is given.

    Raises:
        UserError: the tensorboard package is missing, or the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing("tensorboard", "tensorboard") from None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--tensorboard {folder} cannot be made ({error.strerror})") from None
        self.folder, self._make = folder, SummaryWriter
        self._writers: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        """Write an epoch's scalars at its number, from 1; first stages count below that."""
        if event["kind"] != "epoch":
            return
        run = event["run"]
        if run not in self._writers:
            self._writers[run] = self._make(str(self.folder / run))
        epoch, values = scalars(event)
        for name, value in values.items():
            self._writers[run].add_scalar(name, value, epoch)
        self._writers[run].flush()

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()
