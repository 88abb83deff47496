"""The narrow residual networks of CIFAR: three stages of basic blocks."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.registry import register_model


def init_convolutions(model: nn.Module) -> None:
    """Draw every convolution from a normal of variance 2 / fan out (He et al. 2015).

    Biases become 0; batch norm keeps PyTorch's own start at 1 and 0. Depthwise kernels count
    all output channels in their fan out, as the published CRD models do.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: ``(B, C, H, W)`` to ``(B, C', H/s, W/s)``.

    The output is the sum before its ReLU; the stage applies it.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return cast(Tensor, out)


def run_stage(stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run residual blocks that leave their last ReLU out.

    Returns:
        The stage's output after and before its last ReLU. Only that ReLU allocates: the
        sums of the other blocks are nobody else's and are overwritten.
    """
    *body, last = stage
    for block in body:
        x = F.relu(block(x), inplace=True)
    preact: Tensor = last(x)
    return F.relu(preact), preact


@register_model("resnet8", depth=8)
@register_model("resnet14", depth=14)
@register_model("resnet20", depth=20)
@register_model("resnet32", depth=32)
@register_model("resnet44", depth=44)
@register_model("resnet56", depth=56)
@register_model("resnet110", depth=110)
@register_model("resnet8x4", depth=8, widths=(32, 64, 128, 256))
@register_model("resnet32x4", depth=32, widths=(32, 64, 128, 256))
class ResNet(nn.Module):
    """CIFAR residual network of basic blocks (He et al. 2016).

    "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385,
    section 4.2, with projection shortcuts where the shape changes.

    Shapes for S×S images: stem ``(w0, S, S)``, stages ``(w1, S, S)``, ``(w2, S/2, S/2)``,
    ``(w3, S/4, S/4)`` (halves rounded up), pooled ``w3``. Any image size works.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        depth: number of layers, 6n + 2.
        widths: channels of the stem and the three stages.

    Raises:
        ValueError: ``depth`` is not 6n + 2.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        depth: int = 20,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
    ) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6n + 2, not {depth}")
        stem, one, two, three = widths
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = self._stage(stem, one, blocks, stride=1)
        self.layer2 = self._stage(one, two, blocks, stride=2)
        self.layer3 = self._stage(two, three, blocks, stride=2)
        self.fc = nn.Linear(three, num_classes)
        init_convolutions(self)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

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
            self.fc(pooled),
            three,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.fc

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm before each stage's last ReLU: its last block's, before the addition."""
        return [cast(BasicBlock, s[-1]).bn2 for s in (self.layer1, self.layer2, self.layer3)]
