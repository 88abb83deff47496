"""Batches drawn and augmented as whole tensors, on the device that trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcordbench.data.base import Images
from wcordbench.methods.base import Batch
from wcordbench.seeds import derive


class TrainingBatches:
    """The training set on a device, cut into shuffled, augmented batches.

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
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        mean: list[float],
        std: list[float],
        crop_padding: int,
        flip: bool,
        device: torch.device,
    ) -> None:
        padding = ((0, 0), (crop_padding, crop_padding), (crop_padding, crop_padding), (0, 0))
        self.pixels = torch.from_numpy(np.pad(images.pixels, padding)).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.size = images.pixels.shape[1:3]
        self.batch_size, self.seed = batch_size, seed
        self.padding, self.flip, self.device = crop_padding, flip, device
        self.normalise = Normalise(mean, std, device)

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Batch]]:
        """The batches of an epoch from a step on.

        Args:
            epoch: any whole number; those of a first stage are negative.
            start: the first step drawn; its batch does not depend on where one starts.

        Yields:
            Images, float32 ``(B, C, H, W)`` in channels-last memory, and their labels and
            indices; the last batch may be smaller.
        """
        generator = torch.Generator().manual_seed(derive(self.seed, "order", epoch))
        order = torch.randperm(len(self.labels), generator=generator).to(self.device)
        for step in range(start, len(self)):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            generator.manual_seed(derive(self.seed, "augment", epoch, step))
            images = self.normalise(self._augment(indices, generator))
            yield images, Batch(self.labels[indices], indices)

    def _augment(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        b, (height, width) = len(indices), self.size
        # Drawn on the CPU: the same crops on every kind of device.
        offsets = torch.randint(2 * self.padding + 1, (2, b, 1), generator=generator)
        mirror = torch.rand(b, 1, generator=generator) < 0.5
        columns = torch.arange(width).expand(b, width)
        if self.flip:
            columns = torch.where(mirror, columns.flip(1), columns)
        rows = (torch.arange(height) + offsets[0]).to(self.device, non_blocking=True)
        columns = (columns + offsets[1]).to(self.device, non_blocking=True)
        return self.pixels[indices[:, None, None], rows[:, :, None], columns[:, None, :]]


class Normalise:
    """uint8 ``(B, H, W, C)`` to float32 ``(B, C, H, W)`` in channels-last memory.

    Args:
        mean, std: one value a channel, of values in [0, 1].
        device: where the images are.
    """

    def __init__(self, mean: list[float], std: list[float], device: torch.device) -> None:
        self.scale = (1 / (255 * torch.tensor(std))).to(device)
        self.shift = (torch.tensor(mean) / torch.tensor(std)).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float().mul_(self.scale).sub_(self.shift)).permute(0, 3, 1, 2)


class TestBatches:
    """The test set in order, without augmentation.

    Args:
        images: the test images.
        mean, std: one value a channel, of values in [0, 1].
        device: where the images live and batches are made.
    """

    __test__ = False  # not a test case, whatever pytest makes of the name

    def __init__(
        self, images: Images, mean: list[float], std: list[float], device: torch.device
    ) -> None:
        self.tensor = torch.from_numpy(np.ascontiguousarray(images.pixels)).to(device)
        self.labels = torch.from_numpy(images.labels).to(device)
        self.normalise = Normalise(mean, std, device)
        height, width = images.pixels.shape[1:3]
        # Smaller batches of large images: memory, and the time until a stop is noticed.
        self.batch_size = max(1, min(500, 500 * 64 * 64 // (height * width)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, float32 ``(B, C, H, W)``, and labels ``(B,)``."""
        for start in range(0, len(self.labels), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self.normalise(self.tensor[part]), self.labels[part]


def dataset_batches(config: dict[str, Any], train: Images, device: torch.device) -> TrainingBatches:
    """The training batches that a run's configuration describes."""
    dataset, protocol = config["dataset"], config["train"]
    return TrainingBatches(
        train,
        protocol["batch_size"],
        config["seed"],
        dataset["mean"],
        dataset["std"],
        protocol["augment"]["crop_padding"],
        protocol["augment"]["flip"],
        device,
    )
