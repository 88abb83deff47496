"""What is done to a training image, the same whether images are in memory or streamed.

An augmentation draws for a batch (:meth:`CropFlip.draw`, from the seed, the epoch and the step) and
applies what was drawn to one image (:meth:`CropFlip.apply`, in whatever process decodes it). The
order of an epoch is a function of seed and epoch, so that a step and a place in it name an image:
what an image gets depends on (seed, epoch, index) alone, and never on which process applies it or
on what was drawn before. :meth:`CropFlip.cut` is the same for a batch that lies on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wcordbench.data.views import send


class Drawn(NamedTuple):
    """What was drawn for B images.

    Attributes:
        offsets: int64 ``(2, B, 1)``, of the crop's top left corner in the padded image.
        mirror: bool ``(B, 1)``.
    """

    offsets: Tensor
    mirror: Tensor


@dataclass(frozen=True)
class CropFlip:
    """CIFAR's usual augmentation: zero-pad, crop at random to the original size, mirror.

    Attributes:
        padding: pixels on each side; 0 for no crop.
        flip: whether to mirror with probability one half.
    """

    padding: int
    flip: bool

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """For so many images; on the CPU, so that every kind of device has the same crops."""
        offsets = torch.randint(2 * self.padding + 1, (2, count, 1), generator=generator)
        mirror = torch.rand(count, 1, generator=generator) < 0.5
        return Drawn(offsets, mirror)

    def pad(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Black borders around images ``(N, H, W, C)``."""
        p = self.padding
        n, height, width, channels = pixels.shape
        padded = np.zeros((n, height + 2 * p, width + 2 * p, channels), pixels.dtype)
        padded[:, p : p + height, p : p + width] = pixels
        return padded

    def cut(self, padded: Tensor, indices: Tensor, drawn: Drawn) -> Tensor:
        """A batch ``(B, H, W, C)`` of the padded images on a device."""
        b, device = len(indices), padded.device
        height, width = (side - 2 * self.padding for side in padded.shape[1:3])
        columns = torch.arange(width).expand(b, width)
        if self.flip:
            columns = torch.where(drawn.mirror, columns.flip(1), columns)
        rows = send(torch.arange(height) + drawn.offsets[0], device)
        columns = send(columns + drawn.offsets[1], device)
        return padded[indices[:, None, None], rows[:, :, None], columns[:, None, :]]

    def apply(self, image: NDArray[np.uint8], drawn: Drawn) -> NDArray[np.uint8]:
        """One image ``(H, W, C)`` and what was drawn for it (B = 1)."""
        height, width = image.shape[:2]
        top, left = (int(x) for x in drawn.offsets[:, 0, 0])
        cut = self.pad(image[None])[0, top : top + height, left : left + width]
        return cut[:, ::-1] if self.flip and bool(drawn.mirror[0, 0]) else cut
