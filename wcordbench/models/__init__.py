"""The networks: :func:`create` builds any of them by name, all return :class:`Features`."""

from __future__ import annotations

import functools
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.models.checkpoint import load_checkpoint
from wcordbench.models.complexity import macs
from wcordbench.models.features import Features, FeatureShapes

TIMM = "timm:"


def create(name: str, num_classes: int, image_size: int = 32, in_channels: int = 3) -> nn.Module:
    """A network with fresh weights, drawn from PyTorch's global generator.

    Args:
        name: a registered name, or ``timm:`` and a name that ``timm.create_model`` knows.
        num_classes: length K of the logits.
        image_size: side S of the images.
        in_channels: their channels C.

    Returns:
        A module that maps ``(B, C, S, S)`` to :class:`Features` and has ``get_classifier()``.

    Raises:
        UserError: no such name, or the network cannot process images of this size.
    """
    if name.startswith(TIMM):
        from wcordbench.models.timm_adapter import TimmModel

        return TimmModel(name.removeprefix(TIMM), num_classes, in_channels, image_size)
    entry = registry.get("model", name)
    model = entry.load()(
        num_classes=num_classes, in_channels=in_channels, image_size=image_size, **entry.meta
    )
    return cast(nn.Module, model)


def pretrained_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, per channel, of the images of a model's pretrained weights.

    Args:
        name: of a timm model, with ``timm:``.

    Raises:
        UserError: there are no such weights.
    """
    from wcordbench.models.timm_adapter import pretrained_config

    config = pretrained_config(name.removeprefix(TIMM))
    return tuple(config.mean), tuple(config.std)


class Outline(NamedTuple):
    """What can be known of a network without its weights.

    Attributes:
        shapes: of its features for one image.
        classifier: its last layer; None where it does not say.
        norms: scale and shift of the batch norm before each stage's last ReLU, or why there
            are none.
    """

    shapes: FeatureShapes
    classifier: nn.Module | None
    norms: tuple[tuple[Tensor, Tensor], ...] | str


def classifier_of(model: nn.Module) -> nn.Module | None:
    """A network's last layer, or None where it has no ``get_classifier``."""
    found = getattr(model, "get_classifier", None)
    return None if found is None else cast(nn.Module | None, found())


def norms_of(model: nn.Module) -> tuple[tuple[Tensor, Tensor], ...] | str:
    """Scale and shift of the batch norm before each stage's last ReLU, or why there are none."""
    named = getattr(model, "stage_norms", None)
    if named is None:
        return "the network does not say which batch norms come before its stages' last ReLU"
    norms = named()
    if isinstance(norms, str):
        return norms
    return tuple((norm.weight.detach(), norm.bias.detach()) for norm in norms)


def shapes_of(model: nn.Module, features: Features) -> FeatureShapes:
    """The shapes of a network's features; ``shows_preact`` of the network says what they hold."""
    return features.shapes()._replace(preact=getattr(model, "shows_preact", True))


@functools.cache
def outline(name: str, num_classes: int, image_size: int = 32, in_channels: int = 3) -> Outline:
    """A network's shapes and parts, on the meta device.

    Raises:
        UserError: as :func:`create`, or it does not give as many logits.
    """
    with torch.device("meta"), torch.no_grad():
        model = create(name, num_classes, image_size, in_channels).eval()
        features: Features = model(torch.empty(1, in_channels, image_size, image_size))
    if not isinstance(features, Features):
        raise UserError(
            f"model {name!r} gives a {type(features).__name__}; give"
            " wcordbench.models.features.Features, or leave that to"
            " wcordbench.models.wrap.WithFeatures"
        )
    shapes = shapes_of(model, features)
    if shapes.logits != num_classes:
        raise UserError(
            f"model {name!r} gives {shapes.logits} logits for {num_classes} classes; build its last"
            " layer for num_classes, and give its output as Features' logits"
        )
    return Outline(shapes, classifier_of(model), norms_of(model))


@functools.cache
def feature_shapes(
    name: str, num_classes: int, image_size: int = 32, in_channels: int = 3
) -> FeatureShapes:
    """Shapes of a network's features for one image, without allocating its weights.

    Raises:
        UserError: as :func:`create`.
    """
    return outline(name, num_classes, image_size, in_channels).shapes


__all__ = [
    "FeatureShapes", "Features", "Outline", "classifier_of", "create", "feature_shapes",
    "load_checkpoint", "macs", "norms_of", "outline", "pretrained_normalisation",
    "shapes_of",
]  # fmt: skip
