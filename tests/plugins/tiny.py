"""A method, a model and a dataset from outside of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.data.base import Dataset, Images
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.registry import register_dataset, register_method, register_model


@register_method("pull", title="Pull", paper="a test", gamma=0.5, beta=2.0)
class Pull(Method):
    """Pulls the logits together."""

    def __init__(self, setup: Setup, *, power: int, scale: float = 1.0) -> None:
        super().__init__(setup)
        self.power, self.scale = power, scale

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """Mean of the difference's power."""
        return self.scale * F.mse_loss(student.logits, teacher.logits) ** (self.power / 2)


@register_model("speck", width=2)
@register_model("speck_wide", width=4)
class Speck(nn.Module):
    """One convolution and a pointwise one."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        # No stride: with fewer than 8 channels torch's AVX2 kernel then writes beyond its memory.
        self.second = nn.Conv2d(width, 2 * width, 1)
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Features:
        """Features of a batch of images."""
        stem = F.relu(self.first(x))
        preact = self.second(stem)
        stage = F.relu(preact)
        pooled = stage.mean((2, 3))
        return Features(stem, (stage,), (preact,), pooled, self.classifier(pooled))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.classifier


@register_dataset("stripes", title="Stripes", classes=2, size=6, channels=1)
def stripes(root: Path, *, images: int = 32) -> Dataset:
    """Horizontal and vertical stripes."""
    labels = (np.arange(images) % 2).astype(np.int64)
    stripe = np.where(np.arange(6) % 2, 255, 0).astype(np.uint8)
    one = np.broadcast_to(stripe, (6, 6))
    pixels = np.where(labels[:, None, None] == 1, one, one.T)[..., None]
    split = Images(np.ascontiguousarray(pixels), labels)
    return Dataset(split, split, ("across", "down"))
