"""Batch norms of a network that no longer learns, as part of the layers before them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from wcordbench.models.features import Features

#: largest difference of a folded network's features, as a part of the largest value: far below
#: what TF32 and bf16 round
TOLERANCE = 1e-4


@torch.no_grad()
def fold(model: nn.Module, image_size: int, in_channels: int = 3) -> nn.Module:
    """A network with the same features and fewer layers, for evaluation alone.

    In evaluation mode a batch norm is a fixed scale and shift of each channel. Where nothing
    else sees the output of the convolution or linear layer before it, they become a part of
    that layer's weights. What results is compared with the network on two random images: one
    that cannot be traced, or where the features differ (a layer that is called twice),
    is returned as it is.

    Args:
        model: in evaluation mode, on the CPU; it is left unchanged.
        image_size: side S of the images.
        in_channels: their channels C.

    Returns:
        A module that maps ``(B, C, S, S)`` to :class:`Features`; without ``get_classifier()``
        where something has been folded.
    """
    if not any(type(m) in (nn.BatchNorm1d, nn.BatchNorm2d) for m in model.modules()):
        return model
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, in_channels, image_size, image_size, generator=generator)
    try:
        folded = fuse(model).eval()
        same = difference(model(images), folded(images)) <= TOLERANCE
    except Exception:  # networks of others: what tracing meets there is of many kinds
        return model
    return folded if same else model


def placed(
    teacher: nn.Module, image_size: int, in_channels: int, device: torch.device
) -> nn.Module:
    """A teacher as a training holds it: on its device, in channels-last memory, on CUDA folded.

    Args:
        teacher, image_size, in_channels: see :func:`fold`; on the CPU a run's bits are promised,
            and it stays as it is.
        device: where it is to teach.
    """
    if device.type == "cuda":
        teacher = fold(teacher, image_size, in_channels)
    return teacher.to(device).to(memory_format=torch.channels_last)


def difference(one: Features, other: Features) -> float:
    """The largest difference of two networks' features, each relative to its largest value."""
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def _tensors(features: Features) -> Iterator[Tensor]:
    yield features.stem
    yield from features.stages
    yield from features.stages_preact
    yield features.pooled
    yield features.logits
    if features.last_map is not None:
        yield features.last_map


__all__ = ["difference", "fold"]
