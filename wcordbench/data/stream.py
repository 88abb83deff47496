"""Images decoded as they are needed, by processes of a DataLoader."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wcordbench.data.augment import CropFlip, Drawn
from wcordbench.data.files import ImageFiles
from wcordbench.data.recipe import Transforms
from wcordbench.errors import UserError

#: how many processes decode; by default as many as the training has threads
LOADERS = "WCORDBENCH_LOADERS"
#: bytes and images that a process decodes at a time, and how many such parts it may be ahead
PART_BYTES, PART_IMAGES, AHEAD = 1 << 22, 64, 3
#: bytes of decoded images under way, in all processes together
UNDER_WAY = 1 << 28


@dataclass(frozen=True)
class Part:
    """Some images of a batch, and what was drawn for them; all of them where nothing was."""

    indices: NDArray[np.int64]
    drawn: Drawn | None = None
    epoch: int = 0


def loaders() -> int:
    """How many processes decode; 0 is the training's own.

    Raises:
        UserError: the environment's value is no such number.
    """
    given = os.environ.get(LOADERS)
    if given is None:
        return torch.get_num_threads()
    if not (given.isascii() and given.isdecimal()) or int(given) > 1024:
        raise UserError(f"{LOADERS} is {given!r}; give a number of processes, 0 to 1024")
    return int(given)


class Stream:
    """Batches of a split's files, in the order of a plan.

    The processes are started by the first batch and stay. What is in one does not change what
    comes: their number is no part of a run.

    Args:
        files: the split.
        device: where batches go; from pinned memory where it is CUDA.
        augment: what is done to each image; None for nothing.
        transforms: what is done to each after that.
    """

    def __init__(
        self,
        files: ImageFiles,
        device: torch.device,
        augment: CropFlip | None = None,
        transforms: Transforms | None = None,
    ) -> None:
        self.files, self.device, self.augment = files, device, augment
        self.transforms = transforms
        self.sampler = _Parts()
        self.workers = loaders()
        self.images = self._part()
        self.loader: Any = None

    def _part(self) -> int:
        """Images in a part: few where they are large, processes many, or shared memory little."""
        most = UNDER_WAY
        with contextlib.suppress(OSError):  # what processes hand over lies there: often 64 MiB
            most = min(most, shutil.disk_usage("/dev/shm").free // 2)
        size = int(np.prod(self.files.shape[1:]))
        budget = min(PART_BYTES, most // (max(1, self.workers) * AHEAD))
        return max(1, min(PART_IMAGES, budget // size))

    def _start(self) -> Any:
        several: dict[str, Any] = (
            {"prefetch_factor": AHEAD, "persistent_workers": True} if self.workers else {}
        )
        return DataLoader(
            _Reader(self.files, self.augment, self.transforms),
            batch_size=None,
            sampler=self.sampler,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            **several,
        )

    def batches(
        self, plan: Iterator[tuple[Tensor, Drawn | None]], epoch: int = 0
    ) -> Iterator[Tensor]:
        """The images of each batch of a plan, uint8 ``(B, S, S, C)``, on the device.

        Args:
            plan: indices ``(B,)`` on the CPU and what was drawn for them; read ahead.
            epoch: that the transforms draw for.

        Raises:
            UserError: an image cannot be decoded; what came before it has been given.
        """
        self.loader = self.loader or self._start()
        self.sampler.begin(plan, self.images, epoch)
        together: list[Tensor] = []
        for found in self.loader:
            if isinstance(found, str):
                raise UserError(found)
            together.append(found.to(self.device, non_blocking=True))
            if self.sampler.ends[0] == 1:
                self.sampler.ends.pop(0)
                yield together[0] if len(together) == 1 else torch.cat(together)
                together = []
            else:
                self.sampler.ends[0] -= 1


class _Parts(Sampler[Part]):
    """The parts of the batches of a plan.

    Attributes:
        ends: how many parts are still to come of each batch handed out.
    """

    def __init__(self) -> None:
        self.plan: Iterator[tuple[Tensor, Drawn | None]] = iter(())
        self.size, self.epoch, self.ends = 1, 0, list[int]()

    def begin(self, plan: Iterator[tuple[Tensor, Drawn | None]], size: int, epoch: int) -> None:
        """A new plan, of which parts have at most ``size`` images."""
        self.plan, self.size, self.epoch, self.ends = plan, size, epoch, []

    def __len__(self) -> int:
        """Unknown: a plan is read as it is needed. PyTorch asks, and only warns where more come."""
        return sys.maxsize

    def __iter__(self) -> Iterator[Part]:
        ends = self.ends  # what an abandoned iteration still hands out counts for nothing
        for indices, drawn in self.plan:
            starts = range(0, len(indices), self.size)
            ends.append(len(starts))
            for start in starts:
                chosen = slice(start, start + self.size)
                some = Drawn(drawn.offsets[:, chosen], drawn.mirror[chosen]) if drawn else None
                yield Part(indices[chosen].numpy(), some, self.epoch)


class _Reader(Dataset[Any]):
    """In a process of its own: a part's images, or the sentence that says why there are none."""

    def __init__(
        self, files: ImageFiles, augment: CropFlip | None, transforms: Transforms | None
    ) -> None:
        self.files, self.augment, self.transforms = files, augment, transforms

    def __getitem__(self, part: Part) -> Tensor | str:
        try:
            images = [self._image(part, i) for i in range(len(part.indices))]
        except UserError as error:  # one that is raised here comes with a traceback
            return str(error)
        pixels = torch.from_numpy(np.stack(images))
        if self.transforms is None:
            return pixels
        return self.transforms(pixels, part.indices.tolist(), part.epoch)

    def _image(self, part: Part, i: int) -> NDArray[np.uint8]:
        number = int(part.indices[i])
        if self.transforms is not None and self.transforms.whole is not None:
            image = self.transforms.cut(self.files.whole(number), number, part.epoch)
        else:
            image = self.files.read(number)
        if self.augment is None or part.drawn is None:
            return image
        one = Drawn(part.drawn.offsets[:, i : i + 1], part.drawn.mirror[i : i + 1])
        return self.augment.apply(image, one)
