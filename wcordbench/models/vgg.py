"""VGG networks with batch norm and a single linear layer at the end."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.models.features import Features
from wcordbench.models.resnet import init_convolutions
from wcordbench.registry import register_model

WIDTHS = (64, 128, 256, 512, 512)
#: three halvings come before the fourth stage
SMALLEST = 8
#: from here on the fourth stage is halved as well
LARGE = 64


@register_model("vgg8", convolutions=(1, 1, 1, 1, 1))
@register_model("vgg11", convolutions=(1, 1, 2, 2, 2))
@register_model("vgg13", convolutions=(2, 2, 2, 2, 2))
@register_model("vgg16", convolutions=(2, 2, 3, 3, 3))
@register_model("vgg19", convolutions=(2, 2, 4, 4, 4))
class VGG(nn.Module):
    """VGG with batch norm and global average pooling (Simonyan and Zisserman 2015).

    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    https://arxiv.org/abs/1409.1556. The three fully connected layers are one, and of the five
    2×2 max pools those between stages 1 to 4 remain; images of 64 pixels and more are also
    pooled before the last stage.

    Shapes for S×S images: stem ``(64, S, S)`` (the first group of convolutions), stages
    ``(128, S/2, S/2)``, ``(256, S/4, S/4)``, ``(512, S/8, S/8)`` (rounded down) and
    ``(512, S/8, S/8)``, the last S/16 where S ≥ 64; pooled 512.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: S, 8 or more.
        convolutions: number of convolutions in each of the five groups.

    Raises:
        UserError: ``image_size`` is below 8, so that the fourth group would see nothing.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        convolutions: tuple[int, int, int, int, int] = (2, 2, 2, 2, 2),
    ) -> None:
        super().__init__()
        if image_size < SMALLEST:
            name = f"vgg{sum(convolutions) + 3}"
            raise UserError(
                f"{name} needs images of at least {SMALLEST}x{SMALLEST} pixels and got "
                f"{image_size}x{image_size}; use larger images or a resnet"
            )
        self.pool_last = image_size >= LARGE
        self.block0 = self._group(in_channels, WIDTHS[0], convolutions[0])
        self.block1 = self._group(WIDTHS[0], WIDTHS[1], convolutions[1])
        self.block2 = self._group(WIDTHS[1], WIDTHS[2], convolutions[2])
        self.block3 = self._group(WIDTHS[2], WIDTHS[3], convolutions[3])
        self.block4 = self._group(WIDTHS[3], WIDTHS[4], convolutions[4])
        self.classifier = nn.Linear(WIDTHS[4], num_classes)
        init_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @staticmethod
    def _group(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for number in range(convolutions):
            if number:
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.Conv2d(channels if number else in_channels, channels, 3, padding=1))
            layers.append(nn.BatchNorm2d(channels))
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = F.relu(self.block0(x), inplace=True)
        one_preact = self.block1(F.max_pool2d(stem, 2))
        one = F.relu(one_preact)
        two_preact = self.block2(F.max_pool2d(one, 2))
        two = F.relu(two_preact)
        three_preact = self.block3(F.max_pool2d(two, 2))
        three = F.relu(three_preact)
        four_preact = self.block4(F.max_pool2d(three, 2) if self.pool_last else three)
        four = F.relu(four_preact)
        pooled = F.adaptive_avg_pool2d(four, 1).flatten(1)
        return Features(
            stem,
            (one, two, three, four),
            (one_preact, two_preact, three_preact, four_preact),
            pooled,
            self.classifier(pooled),
            four,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.classifier

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm before each stage's last ReLU."""
        groups = (self.block1, self.block2, self.block3, self.block4)
        return [cast(nn.BatchNorm2d, group[-1]) for group in groups]
