"""Whether a run can take a last batch of one image, found out before it trains."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable

from wcordbench.errors import UserError
from wcordbench.training.draws import seeded
from wcordbench.training.failures import kind_of
from wcordbench.training.host import read
from wcordbench.training.learner import Learner
from wcordbench.training.mistakes import MistakeError


def check_last_batch(
    learners: Iterable[Learner], step: Callable[[Learner, int], None], images: int, batch: int
) -> None:
    """Take the step of an epoch's last batch with a copy of each run, where it has one image.

    Batch norm has one value a channel then, where a map has one position, and no variance.

    Args:
        learners: about to train; they are not changed.
        step: takes the last step of an epoch (its number is given) with a learner.
        images: in the training set.
        batch: ``train.batch_size``.

    Raises:
        UserError: a run cannot take it.
    """
    if images % batch != 1 and batch != 1:
        return
    for learner in learners:
        reason = None
        try:
            with seeded(0):
                twin = copy.deepcopy(learner)
                for epoch in sorted({-twin.first_epochs, 0}):
                    twin.epoch, twin.step = epoch, 0
                    twin.optimizer = twin._optimizer()
                    twin.start_epoch()
                    step(twin, epoch)
                (loss,) = read(twin.loss_sum)
                if not math.isfinite(loss):
                    reason = f"its loss is {loss}"
        except MistakeError:
            continue  # of no batch size: its first step says it, and the runs beside it go on
        except Exception as error:  # networks and methods of anyone raise anything
            if kind_of(error) in ("memory", "device"):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if reason is not None:
            others = [b for b in (batch + 1, batch + 2, batch + 3) if images % b != 1]
            raise UserError(
                f"train.batch_size {batch} leaves one image of the {images} training images for an"
                f" epoch's last batch, which {learner.run.name} cannot be trained on ({reason});"
                f" choose another, such as {min(others[0], images)}"
            )


__all__ = ["check_last_batch"]
