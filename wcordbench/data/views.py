"""What a network sees of an image; the difference between two is privileged information."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wcordbench.seeds import derive

#: luma of ITU-R BT.601, as Pillow's conversion to grey has it
LUMA = (0.299, 0.587, 0.114)


class Normalise:
    """uint8 ``(B, H, W, C)`` to float32 ``(B, C, H, W)`` in channels-last memory.

    Values that are floats already are overwritten.

    Args:
        mean, std: one value a channel, of values in [0, 1].
        device: where the images are.
    """

    def __init__(self, mean: list[float], std: list[float], device: torch.device) -> None:
        self.scale = (1 / (255 * torch.tensor(std))).to(device)
        self.shift = (torch.tensor(mean) / torch.tensor(std)).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        return (pixels.float().mul_(self.scale).sub_(self.shift)).permute(0, 3, 1, 2)


class View:
    """From cut-out pixels to what a network sees, on the device that holds them.

    In this order: Gaussian blur, size, grey, Gaussian noise, normalisation. Where nothing is
    asked for, the pixels are normalised and that is all.

    Args:
        config: the ``view`` part of a run's configuration; None for the image as it is.
        base: side of the pixels given, S.
        mean, std: of the dataset, one value a channel, of values in [0, 1]; a view may have
            its own.
        device: where the pixels are.
        seed: of the noise.

    Attributes:
        size: side of what the network sees, s.
    """

    def __init__(
        self,
        config: dict[str, Any] | None,
        base: int,
        mean: list[float],
        std: list[float],
        device: torch.device,
        seed: int = 0,
    ) -> None:
        config = config or {}
        self.base, self.seed = base, seed
        self.size: int = config.get("size") or base
        self.grayscale: bool = config.get("grayscale", False)
        self.noise: float = config.get("noise", 0.0)
        self.blur: float = config.get("blur", 0.0)
        mean, std = config.get("mean") or mean, config.get("std") or std
        self.normalise = Normalise(mean, std, device)
        self.plain = self.size == base and not (self.grayscale or self.noise or self.blur)

    def __call__(self, pixels: Tensor, *position: int | str) -> Tensor:
        """Images as a network takes them.

        Args:
            pixels: uint8 ``(B, S, S, C)``.
            position: of the batch in training; with the seed it decides the noise.

        Returns:
            float32 ``(B, C, s, s)`` in channels-last memory.
        """
        return self.normalise(pixels if self.plain else self._degrade(pixels.float(), position))

    def _degrade(self, values: Tensor, position: tuple[int | str, ...]) -> Tensor:
        """float32 ``(B, S, S, C)`` of values from 0 to 255 to ``(B, s, s, C)``."""
        images = values.permute(0, 3, 1, 2)  # (B, C, S, S), channels last in memory
        if self.blur:
            images = blur(images, self.blur)
        images = resize(images, self.size)
        values = images.permute(0, 2, 3, 1)
        if self.grayscale:
            channels = values.shape[3]
            weights = LUMA if channels == 3 else (1 / channels,) * channels
            grey = values @ send(torch.tensor(weights), values.device)
            values = grey[..., None].expand(-1, -1, -1, channels)
        if self.noise:
            # Drawn on the CPU: the same noise on every kind of device.
            generator = torch.Generator().manual_seed(derive(self.seed, "noise", *position))
            noise = send(torch.randn(values.shape, generator=generator), values.device)
            values = (values + 255 * self.noise * noise).clamp(0, 255)
        return values.contiguous()


def send(values: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on a device, without waiting for the work that it has.

    CUDA copies so from pinned memory alone; from other memory it first comes to rest.
    """
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def resize(images: Tensor, size: int) -> Tensor:
    """Images ``(B, C, S, S)`` at another side: averaged down, or interpolated (bilinearly) up."""
    base = images.shape[-1]
    if size == base:
        return images
    if size > base:
        return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
    if base % size == 0:
        return F.avg_pool2d(images, base // size)
    return F.adaptive_avg_pool2d(images, size)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of standard deviation ``sigma`` pixels, cut at 3σ; borders are reflected."""
    channels, side = images.shape[1], images.shape[-1]
    radius = min(math.ceil(3 * sigma), side - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(channels, 1, 1)
    images = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    images = F.conv2d(images, kernel[:, :, None, :], groups=channels)
    return F.conv2d(images, kernel[:, :, :, None], groups=channels)


def batch_views(
    config: dict[str, Any], teacher: dict[str, Any] | None, base: int, device: torch.device
) -> tuple[View, View]:
    """The student's and the teacher's view in a run's training; one object where they agree.

    Args:
        config: of a run.
        teacher: the ``teacher`` part of the configuration of a run of the same cohort.
        base: side of the dataset's images.
        device: where batches are made.
    """
    dataset, seed = config["dataset"], config["seed"]
    mine, its = config.get("view"), (teacher or {}).get("view")
    student = View(mine, base, dataset["mean"], dataset["std"], device, derive(seed, "view"))
    if teacher is None or its == mine:
        return student, student
    privileged = View(
        its, base, dataset["mean"], dataset["std"], device, derive(seed, "teacher view")
    )
    return student, privileged
