"""Batches drawn and augmented as whole tensors, on the device that trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcordbench.data.augment import CropFlip, Drawn
from wcordbench.data.base import ImageFiles, Images, Split
from wcordbench.data.kept import Kept, keep
from wcordbench.data.recipe import Mix, Transforms
from wcordbench.data.stream import Stream
from wcordbench.data.strong import strong
from wcordbench.data.views import Normalise, View, batch_views, send
from wcordbench.methods.base import Batch
from wcordbench.seeds import derive


class TrainingBatches:
    """The training set, on a device or decoded as needed, cut into shuffled, augmented batches.

    The augmentation is CIFAR's usual one: zero-pad by ``crop_padding``, random crop of the
    original size, horizontal flip with probability one half, then per-channel
    normalisation. Order, crops and flips depend on the seed, the epoch and the step only,
    so that any step can be drawn again without the ones before it. The last, smaller batch
    of an epoch is kept, as the protocol does.

    Args:
        images: the training images.
        batch_size: B.
        seed: of order, crops and flips; with the epoch and the step it decides them all.
        mean, std: one value a channel, of values in [0, 1].
        crop_padding: pixels; 0 for no crop.
        flip: whether to mirror.
        device: where the images live and batches are made.
        views: what the student and the teacher see of the cut-out image; by default all.
        transforms: what is done to each image after that.
        mix: what is done to a whole batch after that.
    """

    def __init__(
        self,
        images: Split,
        batch_size: int,
        seed: int,
        mean: list[float],
        std: list[float],
        crop_padding: int,
        flip: bool,
        device: torch.device,
        views: tuple[View, View] | None = None,
        transforms: Transforms | None = None,
        mix: Mix | None = None,
    ) -> None:
        self.transforms, self.mix = transforms, mix
        self.augment = CropFlip(crop_padding, flip)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.stream: Stream | None = None
        if isinstance(images, ImageFiles):
            self.stream = Stream(images, device, self.augment, transforms)
        elif transforms is not None and transforms.whole is not None:
            raise ValueError("images in memory are not whole; stream them")
        else:
            self.pixels = torch.from_numpy(self.augment.pad(images.pixels)).to(device)
        self.size = images.shape[1:3]
        self.batch_size, self.seed, self.device = batch_size, seed, device
        whole = View(None, self.size[0], mean, std, device)
        self.student, self.teacher = views or (whole, whole)

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Batch]]:
        """The batches of an epoch from a step on.

        Args:
            epoch: any whole number; those of a first stage are negative.
            start: the first step drawn; its batch does not depend on where one starts.

        Yields:
            The student's images, float32 ``(B, C, H, W)`` in channels-last memory, and their
            labels and indices; the last batch may be smaller.
        """
        for pixels, step, batch in self.pixels_of(epoch, start):
            yield self.student(pixels, epoch, step), batch

    def pairs(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Sight, Batch]]:
        """As :meth:`epoch`, and what else can be seen of the same crops and flips.

        Yields:
            The student's images, what else can be made, labels and indices.
        """
        for pixels, step, batch in self.pixels_of(epoch, start):
            images = self.student(pixels, epoch, step)
            yield images, Sight(self, pixels, images, (epoch, step)), batch

    def pixels_of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, int, Batch]]:
        """The cut-out pixels, uint8 ``(B, H, W, C)``, that every view of a step is made of."""
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        here = send(order, self.device)
        draws = self._plan(order, epoch, start)
        batches: Iterator[Tensor] = iter(())
        if self.stream is not None:
            batches = self.stream.batches(draws, epoch)
        for step in range(start, len(self)):
            indices = here[self._part(step)]
            if self.stream is None:
                pixels = self.augment.cut(self.pixels, indices, next(draws)[1])
            else:
                pixels = next(batches)
            if self.transforms is not None and self.stream is None:
                numbers = order[self._part(step)].tolist()
                pixels = self.transforms(pixels, numbers, epoch)
            batch = Batch(self.labels[indices], indices)
            if self.mix is not None:
                pixels, soft = self.mix(pixels, batch.labels, epoch, step)
                batch = batch._replace(labels=soft.argmax(1), soft=soft)
            yield pixels, step, batch

    def _part(self, step: int) -> slice:
        return slice(step * self.batch_size, (step + 1) * self.batch_size)

    def _plan(self, order: Tensor, epoch: int, start: int) -> Iterator[tuple[Tensor, Drawn]]:
        """The images of each batch of an epoch, by number, and what is drawn for them."""
        for step in range(start, len(self)):
            indices = order[self._part(step)]
            generator = torch.Generator().manual_seed(derive(self.seed, "augment", epoch, step))
            yield indices, self.augment.draw(len(indices), generator)


class Sight:
    """What more can be seen of a step's crops; it is made when asked for.

    Args:
        batches: that it is of.
        pixels: the crops, uint8 ``(B, H, W, C)``.
        images: the student's view of them.
        position: epoch and step.
    """

    def __init__(
        self, batches: TrainingBatches, pixels: Tensor, images: Tensor, position: tuple[int, int]
    ) -> None:
        self.batches, self.pixels, self.images = batches, pixels, images
        self.position = position

    def __call__(self) -> Tensor:
        """The teacher's images; the same tensor where both see the same."""
        return self._taught(self.pixels, self.images)

    def second(self) -> tuple[Tensor, Tensor]:
        """The student's and the teacher's images of strongly augmented crops."""
        generator = torch.Generator()
        generator.manual_seed(derive(self.batches.seed, "strong", *self.position))
        pixels = strong(self.pixels, generator)
        images = self.batches.student(pixels, *self.position)
        return images, self._taught(pixels, images)

    def _taught(self, pixels: Tensor, images: Tensor) -> Tensor:
        same = self.batches.teacher is self.batches.student
        return images if same else self.batches.teacher(pixels, *self.position)


class TestBatches:
    """The test set in order, without augmentation.

    Args:
        images: the test images.
        mean, std: one value a channel, of values in [0, 1].
        device: where the images live and batches are made.
        view: what the network sees of an image; by default all.
        again: whether they are asked for many times; files are then decoded once, to disk, where
            there is room.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(
        self, images: Split, mean: list[float], std: list[float], device: torch.device,
        view: View | None = None, again: bool = True,
    ) -> None:  # fmt: skip
        self.labels = torch.from_numpy(images.labels).to(device)
        self.device = device
        height = images.shape[1]
        self.view = view or View(None, height, mean, std, device)
        side = max(height, self.view.size)
        # Smaller batches of large images: memory, and the time until a stop is noticed.
        self.batch_size = max(1, min(500, 500 * 64 * 64 // (side * side)))
        self.kept: Images | Kept | Stream
        if isinstance(images, ImageFiles):
            # Without augmentation an image is decoded the same each time.
            self.kept = (keep(images) if again else None) or Stream(images, device)
        else:
            self.kept = images
            self.tensor = torch.from_numpy(np.ascontiguousarray(images.pixels)).to(device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, float32 ``(B, C, H, W)``, and labels ``(B,)``."""
        starts = range(0, len(self.labels), self.batch_size)
        for start, pixels in zip(starts, self._pixels(starts), strict=True):
            part = slice(start, start + self.batch_size)
            yield self.view(pixels, "test", start), self.labels[part]

    def _pixels(self, starts: range) -> Iterator[Tensor]:
        """uint8 ``(B, H, W, C)`` of each batch, on the device."""
        kept, numbers = self.kept, np.arange(len(self.labels))
        parts = (numbers[start : start + self.batch_size] for start in starts)
        if isinstance(kept, Stream):
            yield from kept.batches((torch.from_numpy(part), None) for part in parts)
        for part in parts:
            if isinstance(kept, Kept):
                yield torch.from_numpy(kept.rows(part)).to(self.device)
            else:
                yield self.tensor[part[0] : part[-1] + 1]


def dataset_batches(
    config: dict[str, Any],
    train: Split,
    device: torch.device,
    teacher: dict[str, Any] | None = None,
    num_classes: int | None = None,
) -> TrainingBatches:
    """The training batches that a run's configuration describes.

    Args:
        config: of a run.
        train: the training images.
        device: where batches are made.
        teacher: the ``teacher`` part of the configuration; None where no run has one.
        num_classes: K; by default, as many as there are labels.
    """
    dataset, protocol, seed = config["dataset"], config["train"], config["seed"]
    named = protocol["augment"].get("transforms")
    alphas = protocol.get("mixup", 0.0), protocol.get("cutmix", 0.0)
    classes = num_classes or int(train.labels.max()) + 1
    return TrainingBatches(
        train,
        protocol["batch_size"],
        config["seed"],
        dataset["mean"],
        dataset["std"],
        protocol["augment"]["crop_padding"],
        protocol["augment"]["flip"],
        device,
        batch_views(config, teacher, train.shape[1], device),
        Transforms(named, train.shape[1:3], seed) if named else None,
        Mix(classes, *alphas, seed) if any(alphas) else None,
    )


__all__ = ["Normalise", "TestBatches", "TrainingBatches", "dataset_batches"]
