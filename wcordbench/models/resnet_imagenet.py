"""The ImageNet residual network with bottlenecks, started by a 3×3 stem without pooling."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.models.resnet import init_convolutions, run_stage
from wcordbench.registry import register_model

EXPANSION = 4


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a shortcut: ``(B, C, H, W)`` to ``(B, 4·width, H/s, W/s)``.

    The output is the sum before its ReLU; the stage applies it.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return cast(Tensor, out)


@register_model("ResNet50", blocks=(3, 4, 6, 3))
class ResNetImageNet(nn.Module):
    """ImageNet residual network of bottlenecks with a CIFAR stem (He et al. 2016).

    "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385.

    Shapes for S×S images: stem ``(64, S, S)``, stages ``(256, S, S)``, ``(512, S/2, S/2)``,
    ``(1024, S/4, S/4)``, ``(2048, S/8, S/8)`` (halves rounded up), pooled 2048. Any image
    size works.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        blocks: bottlenecks in each of the four stages.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(64, 64, blocks[0], stride=1)
        self.layer2 = self._stage(256, 128, blocks[1], stride=2)
        self.layer3 = self._stage(512, 256, blocks[2], stride=2)
        self.layer4 = self._stage(1024, 512, blocks[3], stride=2)
        self.linear = nn.Linear(2048, num_classes)
        init_convolutions(self)

    @staticmethod
    def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(in_channels, width, stride)
        rest = (Bottleneck(EXPANSION * width, width, 1) for _ in range(blocks - 1))
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = F.relu(self.bn1(self.conv1(x)), inplace=True)
        one, one_preact = run_stage(self.layer1, stem)
        two, two_preact = run_stage(self.layer2, one)
        three, three_preact = run_stage(self.layer3, two)
        four, four_preact = run_stage(self.layer4, three)
        pooled = F.adaptive_avg_pool2d(four, 1).flatten(1)
        return Features(
            stem,
            (one, two, three, four),
            (one_preact, two_preact, three_preact, four_preact),
            pooled,
            self.linear(pooled),
            four,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.linear

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm before each stage's last ReLU: its last block's, before the addition."""
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [cast(Bottleneck, stage[-1]).bn3 for stage in stages]
