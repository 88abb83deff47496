"""Cost of a network."""

from __future__ import annotations

import functools

import torch
from torch.utils.flop_counter import FlopCounterMode


@functools.cache
def macs(name: str, num_classes: int, image_size: int = 32, in_channels: int = 3) -> int:
    """Multiply-accumulates of one image's forward pass, counted without weights.

    Convolutions, linear layers and attention count; batch norm, activations, pooling and
    biases do not. One multiply-accumulate is two of PyTorch's floating-point operations.

    Raises:
        UserError: as :func:`wcordbench.models.create`.
    """
    # The package imports this module.
    from wcordbench.models import create

    with torch.device("meta"), torch.no_grad():
        model = create(name, num_classes, image_size, in_channels).eval()
        image = torch.empty(1, in_channels, image_size, image_size)
        with FlopCounterMode(display=False) as counter:
            model(image)
    return int(counter.get_total_flops()) // 2
