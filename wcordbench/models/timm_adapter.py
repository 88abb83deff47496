"""Any network of the timm library as one of ours.

timm is imported on first use: it takes seconds and most suites do without it.
"""

from __future__ import annotations

import difflib
from typing import Any, cast

import torch
from torch import Tensor, nn

from wcordbench.errors import UserError
from wcordbench.models.features import Features


class TimmModel(nn.Module):
    """A network of the timm library (Wightman 2019, https://github.com/huggingface/pytorch-image-models).

    Each of timm's intermediate maps is ``(B, C, H, W)``: ``stem`` is the first, ``stages``
    are the rest. Where all have one resolution (vision transformers), ``stem`` is the first
    block's output and ``stages`` are those at each quarter of the depth. ``pooled`` is what
    the classifier sees. timm does not give the maps before their last activation:
    ``stages_preact`` are the same tensors as ``stages``. Auxiliary classifiers (Inception) are
    left out. Weights are never downloaded.

    Args:
        name: as ``timm.create_model`` takes it, without ``timm:``.
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side S; models built for one size (transformers) are built for S.

    Raises:
        UserError: timm is not installed, knows no such model or gives no intermediate maps
            for it, or the model cannot process images of this size.
    """

    def __init__(
        self, name: str, num_classes: int, in_channels: int = 3, image_size: int = 32
    ) -> None:
        super().__init__()
        # Without weights first: the shapes decide what forward takes, and a size that does
        # not fit is known before memory is spent.
        with torch.device("meta"), torch.no_grad():
            probe = _build(name, num_classes, in_channels, image_size).eval()
            self._indices = _probe(probe, name, num_classes, in_channels, image_size)
        self.model = _build(name, num_classes, in_channels, image_size)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        model = cast(Any, self.model)
        last, maps = model.forward_intermediates(x, indices=self._indices, output_fmt="NCHW")
        pooled = model.forward_head(last, pre_logits=True)
        stem, *rest = maps
        stages = tuple(rest)
        return Features(stem, stages, stages, pooled, model.get_classifier()(pooled))

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return cast(nn.Module, cast(Any, self.model).get_classifier())


def _build(name: str, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise UserError(
            f"model 'timm:{name}' needs the timm library; install it with 'pip install timm'"
        ) from None
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()"
        raise UserError(f"timm knows no model {name!r}; {hint}")
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size and config.input_size[-1] != image_size:
        options["img_size"] = image_size
    try:
        return timm.create_model(name, pretrained=False, **options)
    # timm reports a size that it cannot build for in many ways, a TypeError where the
    # model has no such option.
    except (TypeError, ValueError, RuntimeError, AssertionError, ZeroDivisionError) as error:
        raise _wrong_size(name, image_size, error) from None


def _probe(
    model: nn.Module, name: str, num_classes: int, in_channels: int, image_size: int
) -> list[int]:
    """Run the weightless model once; the numbers of the maps to take."""
    timm_model = cast(Any, model)
    if not hasattr(model, "forward_intermediates"):
        raise UserError(
            f"timm gives no intermediate maps for 'timm:{name}'; choose a model that has them, "
            "such as timm:resnet18"
        )
    image = torch.empty(1, in_channels, image_size, image_size)
    try:
        last, maps = timm_model.forward_intermediates(image, output_fmt="NCHW")
        pooled = timm_model.forward_head(last, pre_logits=True)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _wrong_size(name, image_size, error) from None
    if any(0 in tensor.shape for tensor in maps):
        raise _wrong_size(name, image_size, "its last maps are empty")
    classifier = timm_model.get_classifier()
    if (
        len(maps) < 2
        or pooled.dim() != 2
        or not isinstance(classifier, nn.Module)
        or classifier(pooled).shape != (1, num_classes)
    ):
        raise UserError(
            f"'timm:{name}' has no single classifier on a pooled vector; choose another model, "
            "such as timm:resnet18"
        )
    if len(maps) > 4 and len({tensor.shape for tensor in maps}) == 1:
        return [0, *(len(maps) * quarter // 4 - 1 for quarter in (1, 2, 3, 4))]
    return list(range(len(maps)))


def _wrong_size(name: str, image_size: int, reason: object) -> UserError:
    first = (str(reason).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return UserError(
        f"'timm:{name}' cannot process {image_size}x{image_size} images ({first}); "
        "use larger images or another model"
    )
