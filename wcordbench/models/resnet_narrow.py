"""A residual network small enough that a few hundred steps leave it far from its teacher."""

from __future__ import annotations

from wcordbench.models.resnet import ResNet
from wcordbench.registry import register_model


@register_model("resnet8_narrow", widths=(2, 2, 4, 8))
class NarrowResNet(ResNet):
    """resnet8 with an eighth of its channels, for small tasks.

    Shapes as in :class:`wcordbench.models.resnet.ResNet`.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side; changes nothing here.
        widths: channels of the stem and the three stages.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        image_size: int = 32,
        widths: tuple[int, int, int, int] = (2, 2, 4, 8),
    ) -> None:
        super().__init__(num_classes, in_channels, image_size, depth=8, widths=widths)
