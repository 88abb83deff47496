"""ShuffleNet V2: channel split instead of grouped 1×1 convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.models.shufflenetv1 import shuffle
from wcordbench.registry import register_model

STEM = 24


class DownUnit(nn.Module):
    """Two branches of stride 2, joined and shuffled: to ``(B, C', H/2, W/2)``."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = self._depthwise(in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = self._depthwise(half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    @staticmethod
    def _depthwise(channels: int) -> nn.Conv2d:
        return nn.Conv2d(channels, channels, 3, 2, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = F.relu(self.bn2(self.conv2(left)), inplace=True)
        right = F.relu(self.bn3(self.conv3(x)), inplace=True)
        right = self.bn4(self.conv4(right))
        right = F.relu(self.bn5(self.conv5(right)), inplace=True)
        return shuffle(torch.cat([left, right], 1), 2)


class SplitUnit(nn.Module):
    """One half of the channels passes, the other is convolved: shape unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def branch(self, x: Tensor) -> Tensor:
        """The convolved half before its last ReLU."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        preact: Tensor = self.bn3(self.conv3(self.bn2(self.conv2(out))))
        return preact

    def forward(self, x: Tensor) -> Tensor:
        kept, taken = x.chunk(2, dim=1)
        return shuffle(torch.cat([kept, F.relu(self.branch(taken), inplace=True)], 1), 2)

    def with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the same before the last ReLU (which the kept half has behind it)."""
        kept, taken = x.chunk(2, dim=1)
        preact = self.branch(taken)
        return (
            shuffle(torch.cat([kept, F.relu(preact)], 1), 2),
            shuffle(torch.cat([kept, preact], 1), 2),
        )


class Stage(nn.Sequential):
    """A down unit and split units."""

    def __init__(self, in_channels: int, channels: int, blocks: int) -> None:
        rest = (SplitUnit(channels) for _ in range(blocks - 1))
        super().__init__(DownUnit(in_channels, channels), *rest)

    def with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The stage's output after and before the last ReLU."""
        *body, last = self
        for unit in body:
            x = unit(x)
        assert isinstance(last, SplitUnit)
        return last.with_preact(x)


@register_model("shufflenetv2", widths=(116, 232, 464), blocks=(4, 8, 4), last=1024)
class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 of width 1 (Ma et al. 2018).

    "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
    https://arxiv.org/abs/1807.11164, its stem replaced by a 1×1 convolution.

    Shapes for S×S images: stem ``(24, S, S)``, stages ``(116, S/2, S/2)``,
    ``(232, S/4, S/4)``, ``(464, S/8, S/8)`` (halves rounded up), pooled 1024. Any image size
    works. In ``stages_preact`` only the channels that the last unit convolved differ from
    ``stages``; the others passed it untouched.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        widths: channels of the three stages.
        blocks: units in each stage, two or more.
        last: channels of the final 1×1 convolution.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        widths: tuple[int, int, int] = (116, 232, 464),
        blocks: tuple[int, int, int] = (4, 8, 4),
        last: int = 1024,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = Stage(STEM, widths[0], blocks[0])
        self.layer2 = Stage(widths[0], widths[1], blocks[1])
        self.layer3 = Stage(widths[1], widths[2], blocks[2])
        self.conv2 = nn.Conv2d(widths[2], last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.linear = nn.Linear(last, num_classes)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        one, one_preact = self.layer1.with_preact(stem)
        two, two_preact = self.layer2.with_preact(one)
        three, three_preact = self.layer3.with_preact(two)
        head = F.relu(self.bn2(self.conv2(three)), inplace=True)
        pooled = F.adaptive_avg_pool2d(head, 1).flatten(1)
        return Features(
            stem,
            (one, two, three),
            (one_preact, two_preact, three_preact),
            pooled,
            self.linear(pooled),
            head,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.linear

    def stage_norms(self) -> str:
        """Why no batch norm comes before the whole of a stage's last ReLU."""
        return "half of the channels of shufflenetv2's stages pass their last batch norm by"
