"""MobileNetV2: inverted residuals with linear bottlenecks."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.models.resnet import init_convolutions
from wcordbench.registry import register_model

#: the paper's Table 2 for small images: expansion, channels at width 1, blocks, stride
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1×1 expansion, depthwise 3×3, linear 1×1: ``(B, C, H, W)`` to ``(B, C', H/s, W/s)``."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.residual:
            out += x
        return cast(Tensor, out)


@register_model("mobilenetv2", width=0.5)
class MobileNetV2(nn.Module):
    """MobileNetV2, of half width as ``mobilenetv2`` (Sandler et al. 2018).

    "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    https://arxiv.org/abs/1801.04381, with ReLU for ReLU6 and one halving less.

    Shapes at width 0.5 for S×S images: stem ``(16, S/2, S/2)``, stages ``(12, S/2, S/2)``,
    ``(16, S/4, S/4)``, ``(48, S/8, S/8)``, ``(160, S/16, S/16)`` (halves rounded up), pooled
    1280. Any image size works. The bottlenecks are linear, so that no ReLU ends a stage:
    ``stages_preact`` are the same tensors as ``stages``.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        width: factor on the channels of all groups.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        width: float = 0.5,
    ) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = self._conv_bn_relu(in_channels, channels, 3, stride=2)
        groups = []
        for expansion, base, blocks, stride in GROUPS:
            out = int(base * width)
            first = InvertedResidual(channels, out, expansion, stride)
            rest = (InvertedResidual(out, out, expansion, 1) for _ in range(blocks - 1))
            groups.append(nn.Sequential(first, *rest))
            channels = out
        self.blocks = nn.ModuleList(groups)
        # The paper widens the last layer with the network but never narrows it.
        last = int(1280 * max(width, 1.0))
        self.conv2 = self._conv_bn_relu(channels, last, 1, stride=1)
        self.classifier = nn.Sequential(nn.Linear(last, num_classes))
        init_convolutions(self)
        nn.init.normal_(self._linear.weight, std=0.01)
        nn.init.zeros_(self._linear.bias)

    @staticmethod
    def _conv_bn_relu(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    @property
    def _linear(self) -> nn.Linear:
        return cast(nn.Linear, self.classifier[0])

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = self.conv1(x)
        one = self.blocks[1](self.blocks[0](stem))
        two = self.blocks[2](one)
        three = self.blocks[4](self.blocks[3](two))
        four = self.blocks[6](self.blocks[5](three))
        last = self.conv2(four)
        pooled = F.adaptive_avg_pool2d(last, 1).flatten(1)
        stages = (one, two, three, four)
        return Features(stem, stages, stages, pooled, self.classifier(pooled), last)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self._linear

    def stage_norms(self) -> str:
        """Why no batch norm comes before a stage's last ReLU."""
        return "the bottlenecks of mobilenetv2 are linear: no ReLU ends its stages"
