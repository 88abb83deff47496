"""ShuffleNet with grouped 1×1 convolutions."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.models.resnet import run_stage
from wcordbench.registry import register_model

STEM = 24


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of ``groups`` equal groups of ``(B, C, H, W)``."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, groups, channels // groups, height, width)
    return split.transpose(1, 2).reshape(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    """Grouped 1×1, shuffle, depthwise 3×3, grouped 1×1: to ``(B, C', H/s, W/s)``.

    With stride 2 the average-pooled input is appended to the channels, otherwise it is added.
    The output is before its ReLU; the stage applies it.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.append = stride == 2
        made = channels - in_channels if self.append else channels
        middle = made // 4
        # The paper does not group the first pointwise layer: its input is too narrow.
        self.groups = 1 if in_channels == STEM else groups
        self.conv1 = nn.Conv2d(in_channels, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, made, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.groups > 1:
            out = shuffle(out, self.groups)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        if self.append:
            return torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1)
        out += x
        return cast(Tensor, out)


@register_model("shufflenetv1", widths=(240, 480, 960), blocks=(4, 8, 4), groups=3)
class ShuffleNetV1(nn.Module):
    """ShuffleNet of three groups (Zhang et al. 2018).

    "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
    https://arxiv.org/abs/1707.01083, its stem replaced by a 1×1 convolution. One departure
    comes from the published CRD code: a ReLU follows the depthwise convolution.

    Shapes for S×S images: stem ``(24, S, S)``, stages ``(240, S/2, S/2)``,
    ``(480, S/4, S/4)``, ``(960, S/8, S/8)`` (halves rounded up), pooled 960. Any image size
    works.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        widths: channels of the three stages.
        blocks: units in each stage.
        groups: groups of the pointwise convolutions.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        widths: tuple[int, int, int] = (240, 480, 960),
        blocks: tuple[int, int, int] = (4, 8, 4),
        groups: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = self._stage(STEM, widths[0], blocks[0], groups)
        self.layer2 = self._stage(widths[0], widths[1], blocks[1], groups)
        self.layer3 = self._stage(widths[1], widths[2], blocks[2], groups)
        self.linear = nn.Linear(widths[2], num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, groups: int) -> nn.Sequential:
        first = ShuffleUnit(in_channels, channels, 2, groups)
        rest = (ShuffleUnit(channels, channels, 1, groups) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        one, one_preact = run_stage(self.layer1, stem)
        two, two_preact = run_stage(self.layer2, one)
        three, three_preact = run_stage(self.layer3, two)
        pooled = F.adaptive_avg_pool2d(three, 1).flatten(1)
        return Features(
            stem,
            (one, two, three),
            (one_preact, two_preact, three_preact),
            pooled,
            self.linear(pooled),
            three,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.linear

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm before each stage's last ReLU: its last unit's, before the addition."""
        return [cast(ShuffleUnit, s[-1]).bn3 for s in (self.layer1, self.layer2, self.layer3)]
