"""The teacher's view of the whole training set, for methods that look at it before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from wcordbench.methods.base import Features
from wcordbench.training.evaluation import StoppedError


class Passes:
    """Every iteration is a pass of the teacher over the training images, in their order.

    Args:
        teacher: maps images to :class:`Features`, in evaluation mode.
        images: batches of images ``(B, C, H, W)``, not augmented, and labels ``(B,)``.
        should_stop: asked before every batch.
    """

    def __init__(
        self,
        teacher: nn.Module,
        images: Iterable[tuple[Tensor, Tensor]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.teacher, self.images, self.should_stop = teacher, images, should_stop

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[Features, Tensor]]:
        """The teacher's features of a batch, in float32, and its labels.

        Raises:
            StoppedError: ``should_stop`` said so.
        """
        for images, labels in self.images:
            if self.should_stop():
                raise StoppedError
            yield self.teacher(images), labels


__all__ = ["Passes"]
