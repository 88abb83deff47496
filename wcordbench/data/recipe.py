"""Today's augmentations: torchvision's transforms of each image, mixtures of a batch.

Both work on the pixels that an epoch's crops and flips have left, in memory or streamed alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from wcordbench.errors import UserError
from wcordbench.seeds import derive
from wcordbench.suite.transforms import TRANSFORMS


class Transforms:
    """torchvision's transforms of one image after another.

    What an image gets depends on (seed, epoch, its number) alone: its transforms draw from
    torch's generator of the CPU, which is seeded for it and restored.

    Attributes:
        whole: whether the first one cuts from images as their files have them; see :meth:`cut`.

    Args:
        named: of a run's configuration, each with a ``name`` and its options.
        size: height and width of the images; they are kept.
        seed: with the epoch and the number it decides everything.

    Raises:
        UserError: torchvision refuses an option's value.
    """

    def __init__(self, named: list[dict[str, Any]], size: tuple[int, ...], seed: int) -> None:
        self.seed = seed
        parts: list[Any] = []
        self.whole: Any = None
        for each in named:
            name, options = each["name"], {k: v for k, v in each.items() if k != "name"}
            whole = options.pop("whole", False)
            if name == "random_resized_crop":
                options |= {"size": tuple(size), "antialias": True}
            try:
                made = getattr(v2, TRANSFORMS[name][0])(**options)
            except (TypeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(
                    f"train.augment.transforms: {name} does not take these options: {reason}"
                ) from None
            if whole:
                self.whole = made
            else:
                parts.append(made)
        self.transform = v2.Compose(parts) if parts else None

    def __call__(self, pixels: Tensor, numbers: list[int], epoch: int) -> Tensor:
        """Images uint8 ``(B, H, W, C)``, their numbers, the epoch; as many, as large."""
        if self.transform is None:
            return pixels
        where, changed = pixels.device, []
        if where.type == "cuda":  # some of them draw on the device of the image
            pixels = pixels.cpu()
        with torch.random.fork_rng(devices=[]):
            for image, number in zip(pixels.permute(0, 3, 1, 2), numbers, strict=True):
                torch.default_generator.manual_seed(derive(self.seed, "transforms", epoch, number))
                changed.append(self.transform(image))
        return torch.stack(changed).permute(0, 2, 3, 1).contiguous().to(where)

    def cut(self, image: NDArray[np.uint8], number: int, epoch: int) -> NDArray[np.uint8]:
        """The crop, resized, of an image of any size ``(H, W, C)``; its number, the epoch."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(self.seed, "whole", epoch, number))
            made: Tensor = self.whole(torch.from_numpy(image.copy()).permute(2, 0, 1))
        return made.permute(1, 2, 0).contiguous().numpy()


def try_transforms(named: list[dict[str, Any]], size: int, channels: int) -> None:
    """Apply each transform to made-up images, so that what raises only at an image shows before.

    What is drawn with a probability is drawn here, and of transforms that choose among
    operations, many choices are made.

    Args:
        named: of a protocol.
        size: side of the images, in pixels.
        channels: of the images.

    Raises:
        UserError: one does not take its options' values, or such images.
    """
    generator = torch.Generator().manual_seed(0)
    for each in named:
        chance = "p" in TRANSFORMS[each["name"]][1] and each.get("p") != 0
        sure = {**each, "p": 1.0} if chance else each
        count, side = (_MANY, min(size, _SMALL)) if each["name"] in _CHOOSING else (2, size)
        made = Transforms([sure], (side, side), 0)
        shape = (count, side, side, channels)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        try:
            if made.whole is not None:
                made.cut(pixels[0].numpy(), 0, 0)
            made(pixels, list(range(count)), 0)
        except Exception as error:  # torchvision raises of every kind
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{each['name']} with these options does not take images of {side}×{side} pixels"
                f" and {channels} channel{'s' * (channels != 1)} ({reason})"
            ) from None


#: transforms that choose among operations; on how many images of what side they are tried
_CHOOSING = ("aug_mix", "auto_augment", "rand_augment", "trivial_augment")
_MANY, _SMALL = 64, 32


class Mix:
    """mixup (Zhang et al., ICLR 2018) and cutmix (Yun et al., ICCV 2019) of a batch with itself.

    Args:
        num_classes: K.
        mixup, cutmix: α of each; 0 for none. With both, a batch has either.
        seed: with the epoch and the step it decides everything.
    """

    def __init__(self, num_classes: int, mixup: float, cutmix: float, seed: int) -> None:
        self.seed, self.num_classes = seed, num_classes
        self.ways = [
            way(alpha=alpha, num_classes=num_classes)
            for way, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
            if alpha
        ]

    def __call__(
        self, pixels: Tensor, labels: Tensor, epoch: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Images uint8 ``(B, H, W, C)`` and labels ``(B,)`` to images and ``(B, K)``."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive(self.seed, "mix", epoch, step))
            way = self.ways[int(torch.randint(len(self.ways), ()))]
            images, soft = way(pixels.permute(0, 3, 1, 2).float(), labels)
        return images.round_().to(torch.uint8).permute(0, 2, 3, 1), soft.float()


__all__ = ["Mix", "Transforms", "try_transforms"]
