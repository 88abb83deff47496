"""A strong augmentation of a batch: RandAugment, on the device that holds the pixels."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from wcordbench.data.views import send
from wcordbench.errors import UserError

#: operations an image, and their magnitude of at most 30
OPERATIONS, MAGNITUDE = 2, 10
LARGEST = 30

Pair = tuple[float, float]


def _affine(images: Tensor, x: float = 0.0, y: float = 0.0, shear: Pair = (0.0, 0.0)) -> Tensor:
    moved: Tensor = F.affine(
        images, 0.0, [int(x), int(y)], 1.0, list(shear), InterpolationMode.NEAREST, center=[0, 0]
    )
    return moved


def _shear(images: Tensor, share: float, vertical: bool) -> Tensor:
    degrees = math.degrees(math.atan(share))
    return _affine(images, shear=(0.0, degrees) if vertical else (degrees, 0.0))


#: Cubuk et al. (2020), with torchvision's ranges: what is done to images uint8 ``(B, C, H, W)``,
#: given a signed share of the range in [−1, 1]
TABLE: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda images, _: images,
    lambda images, m: _shear(images, 0.3 * m, vertical=False),
    lambda images, m: _shear(images, 0.3 * m, vertical=True),
    lambda images, m: _affine(images, x=150 / 331 * images.shape[3] * m),
    lambda images, m: _affine(images, y=150 / 331 * images.shape[2] * m),
    lambda images, m: F.rotate(images, 30 * m, InterpolationMode.NEAREST),
    lambda images, m: F.adjust_brightness(images, 1 + 0.9 * m),
    lambda images, m: F.adjust_saturation(images, 1 + 0.9 * m),
    lambda images, m: F.adjust_contrast(images, 1 + 0.9 * m),
    lambda images, m: F.adjust_sharpness(images, 1 + 0.9 * m),
    lambda images, m: F.posterize(images, 8 - round(4 * abs(m))),
    lambda images, m: F.solarize(images, 255 * (1 - abs(m))),
    lambda images, _: F.autocontrast(images),
    lambda images, _: F.equalize(images),
)


def strong(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Two operations on each image, drawn with equal probability, of magnitude 10 of 30.

    RandAugment(2, 10) (Cubuk et al., NeurIPS 2020). What is drawn is drawn on the CPU, the
    same on every kind of device, and images of one operation are changed together, so that
    nothing waits for the device.

    Args:
        pixels: uint8 ``(B, H, W, C)``; a new tensor is returned.
        generator: of the CPU.

    Raises:
        UserError: the images have neither one channel nor three.
    """
    if pixels.shape[3] not in (1, 3):
        raise UserError(
            f"a strongly augmented view needs images of 1 or 3 channels, and these have"
            f" {pixels.shape[3]}; leave out the methods with a second view"
        )
    images = pixels.permute(0, 3, 1, 2).contiguous()
    for _ in range(OPERATIONS):
        which = torch.randint(len(TABLE), (len(images),), generator=generator)
        sign = torch.randint(2, (len(images),), generator=generator) * 2 - 1
        changed = images.clone()
        for number, operation in enumerate(TABLE):
            for direction in (-1, 1):
                chosen = torch.nonzero((which == number) & (sign == direction)).flatten()
                if len(chosen):
                    here = send(chosen, images.device)
                    changed[here] = operation(images[here], direction * MAGNITUDE / LARGEST)
        images = changed
    return images.permute(0, 2, 3, 1)


__all__ = ["strong"]
