"""Wide residual networks: batch norm and ReLU come before each convolution."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features
from wcordbench.models.resnet import init_convolutions
from wcordbench.registry import register_model


class PreactBlock(nn.Module):
    """Two 3×3 convolutions, each after batch norm and ReLU, and a shortcut.

    ``(B, C, H, W)`` to ``(B, C', H/s, W/s)``. Where the shape changes, the shortcut is a 1×1
    convolution of the activated input; otherwise it is the raw input.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # The name is that of the public checkpoints.
        self.convShortcut: nn.Conv2d | None = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor, normed: Tensor | None = None) -> Tensor:
        """``normed`` is ``bn1(x)`` where the caller has already computed it."""
        # A normed tensor that was passed in is returned to the user: leave it alone.
        activated = (
            F.relu(self.bn1(x), inplace=True) if normed is None else F.relu(normed, inplace=False)
        )
        out = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        out = self.conv2(out)
        out += x if self.convShortcut is None else self.convShortcut(activated)
        return cast(Tensor, out)


class Stage(nn.Module):
    """Blocks of one width; only the first changes the shape."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreactBlock(in_channels, channels, stride)
        rest = (PreactBlock(channels, channels, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def norm(self, x: Tensor) -> Tensor:
        """The first batch norm, to be passed to ``forward`` so that it runs once a step."""
        return cast(Tensor, cast(PreactBlock, self.layer[0]).bn1(x))

    def forward(self, x: Tensor, normed: Tensor | None = None) -> Tensor:
        first, *rest = self.layer
        x = first(x, normed)
        for block in rest:
            x = block(x)
        return x


@register_model("wrn_16_1", depth=16, width=1)
@register_model("wrn_16_2", depth=16, width=2)
@register_model("wrn_40_1", depth=40, width=1)
@register_model("wrn_40_2", depth=40, width=2)
class WideResNet(nn.Module):
    """Wide residual network WRN-d-w (Zagoruyko and Komodakis 2016).

    "Wide Residual Networks", https://arxiv.org/abs/1605.07146, without dropout.

    Shapes for S×S images: stem ``(16, S, S)``, stages ``(16w, S, S)``,
    ``(32w, S/2, S/2)``, ``(64w, S/4, S/4)`` (halves rounded up), pooled ``64w``. Any image
    size works.

    No ReLU ends a stage here, it opens the next. ``stages`` are, as in the published CRD
    code, the sums that the blocks give; ``stages_preact`` are those sums after the batch norm
    that follows (that of the next stage, after the last stage the network's own), which is
    what the next ReLU sees. ``pooled`` and ``last_map`` do come after the last batch norm and
    ReLU.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        depth: number of layers, 6n + 4.
        width: widening factor.

    Raises:
        ValueError: ``depth`` is not 6n + 4.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,  # noqa: ARG002 - the constructors of all models agree
        depth: int = 16,
        width: int = 2,
    ) -> None:
        super().__init__()
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            raise ValueError(f"depth must be 6n + 4, not {depth}")
        one, two, three = 16 * width, 32 * width, 64 * width
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, one, blocks, stride=1)
        self.block2 = Stage(one, two, blocks, stride=2)
        self.block3 = Stage(two, three, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(three)
        self.fc = nn.Linear(three, num_classes)
        init_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        stem = self.conv1(x)
        one = self.block1(stem)
        one_preact = self.block2.norm(one)
        two = self.block2(one, one_preact)
        two_preact = self.block3.norm(two)
        three = self.block3(two, two_preact)
        three_preact = self.bn1(three)
        last = F.relu(three_preact)
        pooled = F.adaptive_avg_pool2d(last, 1).flatten(1)
        return Features(
            stem,
            (one, two, three),
            (one_preact, two_preact, three_preact),
            pooled,
            self.fc(pooled),
            last,
        )

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.fc

    def stage_norms(self) -> list[nn.BatchNorm2d]:
        """The batch norm before each stage's last ReLU, which opens the next stage."""
        return [
            cast(PreactBlock, self.block2.layer[0]).bn1,
            cast(PreactBlock, self.block3.layer[0]).bn1,
            self.bn1,
        ]
