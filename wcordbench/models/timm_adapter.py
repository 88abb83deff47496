"""Any network of the timm library as one of ours.

timm is imported on first use: it takes seconds and most suites do without it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from wcordbench.errors import UserError
from wcordbench.models.features import Features

#: torchvision's Inception file has a second classifier under this name
_AUXILIARY = "AuxLogits."


class TimmModel(nn.Module):
    """A network of the timm library (Wightman 2019, https://github.com/huggingface/pytorch-image-models).

    Each of timm's intermediate maps is ``(B, C, H, W)``: ``stem`` is the first, ``stages``
    are the rest. Where all have one resolution (vision transformers), ``stem`` is the first
    block's output and ``stages`` are those at each quarter of the depth. ``pooled`` is what
    the classifier sees. timm does not give the maps before their last activation:
    ``stages_preact`` are the same tensors as ``stages``. Auxiliary classifiers (Inception) are
    left out, of the network and of files. ``last_map`` is given where all that the network does
    between it and ``pooled`` is the mean over positions. Nothing is downloaded but by
    :meth:`load_pretrained`.

    Args:
        name: as ``timm.create_model`` takes it, without ``timm:``.
        num_classes: length of the logits.
        in_channels: channels of the images.
        image_size: their side S; models built for one size (transformers) are built for S.

    Raises:
        UserError: timm is not installed, knows no such model or gives no intermediate maps
            for it, or the model cannot process images of this size.
    """

    #: methods that need the maps before the last ReLU ask
    shows_preact = False

    def __init__(
        self, name: str, num_classes: int, in_channels: int = 3, image_size: int = 32
    ) -> None:
        super().__init__()
        self.name, self.in_channels, self.image_size = name, in_channels, image_size
        # Without weights first: the shapes decide what forward takes, and a size that does
        # not fit is known before memory is spent.
        with torch.device("meta"), torch.no_grad():
            probe = _build(name, num_classes, in_channels, image_size).eval()
            self._indices = _probe(probe, name, num_classes, in_channels, image_size)
            self._axis = _channel_axis(probe, in_channels, image_size)
        self.model = _build(name, num_classes, in_channels, image_size)

    def forward(self, x: Tensor) -> Features:
        """Features of ``(B, in_channels, S, S)`` images."""
        model = cast(Any, self.model)
        last, maps = model.forward_intermediates(x, indices=self._indices, output_fmt="NCHW")
        pooled = model.forward_head(last, pre_logits=True)
        stem, *rest = maps
        stages = tuple(rest)
        logits = model.get_classifier()(pooled)
        last = None if self._axis is None else last.movedim(self._axis, 1)
        return Features(stem, stages, stages, pooled, logits, last)

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return cast(nn.Module, cast(Any, self.model).get_classifier())

    def own_keys(self, state: dict[str, Tensor], transfer: bool) -> dict[str, Tensor]:
        """A state dict of timm's (or torchvision's) network under the names used here.

        Args:
            state: as a file holds it; one of ours is returned as it is.
            transfer: whether weights of colour images are to be made to fit images of
                another number of channels, as timm does it.
        """
        from timm.models import adapt_input_conv

        if state and all(key.startswith("model.") for key in state):
            state = {key.removeprefix("model."): value for key, value in state.items()}
        kept = {k: v for k, v in state.items() if not k.startswith(_AUXILIARY)}
        state = {f"model.{key}": value for key, value in kept.items()}
        first = pretrained_config(self.name).first_conv if transfer else None
        key = f"model.{first}.weight"
        if isinstance(first, str) and key in state and state[key].shape[1] == 3:
            state = {**state, key: adapt_input_conv(self.in_channels, state[key])}
        return state

    def load_pretrained(self) -> None:
        """Take timm's own weights of this model, downloaded on first use.

        The classifier keeps its weights unless it is for as many classes as timm's; images of
        another number of channels than three are fitted as timm does it.

        Raises:
            UserError: timm has none, or they are not on this machine and cannot be fetched.
        """
        config = pretrained_config(self.name)
        own = cast(Any, self.model)
        with torch.random.fork_rng(devices=[]):
            try:
                theirs = _build(
                    self.name, own.num_classes, self.in_channels, self.image_size, pretrained=True
                )
            except Exception as error:  # what libraries that fetch raise is of many kinds
                raise UserError(_not_fetched(self.name, config, error)) from error
        state = theirs.state_dict()
        if config.num_classes != own.num_classes:
            names = {id(p) for p in self.get_classifier().parameters()}
            fresh = {k: p for k, p in own.named_parameters() if id(p) in names}
            state |= {key: value.detach() for key, value in fresh.items()}
        own.load_state_dict(state)


def save_pretrained(name: str, file: Path) -> None:
    """Write timm's own weights of a model to a ``.safetensors`` file, whole or not at all.

    Args:
        name: without ``timm:``.
        file: where they go.

    Raises:
        UserError: timm has none, they cannot be fetched, or the file cannot be written.
    """
    import timm
    from safetensors.torch import save

    config = pretrained_config(name)
    with torch.random.fork_rng(devices=[]):
        try:
            theirs = timm.create_model(name, pretrained=True)
        except Exception as error:  # what libraries that fetch raise is of many kinds
            raise UserError(_not_fetched(name, config, error, str(file))) from error
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(save({k: v.contiguous() for k, v in theirs.state_dict().items()}))
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"{file} cannot be written ({error.strerror or error})") from None


def pretrained_config(name: str) -> Any:
    """What timm says of a model's own weights: where they are, and what they were trained on.

    Raises:
        UserError: it has none.
    """
    config = _config(name)
    if config is None or not config.has_weights:
        raise UserError(
            f"timm has no pretrained weights of {name!r}; give 'pretrained' a checkpoint file, or"
            " choose one of timm.list_models(pretrained=True)"
        )
    return config


def _config(name: str) -> Any:
    """timm's record of a model, None where it has none.

    Raises:
        UserError: the model has no weights of the tag behind the dot.
    """
    import timm

    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError:
        family = name.partition(".")[0]
        known = timm.list_pretrained(f"{family}.*")
        raise UserError(
            f"timm knows no weights {name!r}; of {family} there are {', '.join(known) or 'none'}"
        ) from None


def _not_fetched(name: str, config: Any, error: Exception, file: str | None = None) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
    place = config.url or ""
    if config.hf_hub_id:
        place = f"https://huggingface.co/{config.hf_hub_id}"
    return (
        f"the pretrained weights of 'timm:{name}' are not on this machine and cannot be fetched"
        f" ({reason}); run once with a network, or download the file from {place} and "
        + (f"put it at {file}" if file else "give its path as the teacher's 'pretrained'")
    )


def _build(
    name: str, num_classes: int, in_channels: int, image_size: int, pretrained: bool = False
) -> nn.Module:
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
    config = _config(name)
    if config is not None and config.fixed_input_size and config.input_size[-1] != image_size:
        options["img_size"] = image_size
    if pretrained:
        return timm.create_model(name, pretrained=True, **options)
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
    if isinstance(classifier, tuple):  # distilled transformers
        raise UserError(
            f"'timm:{name}' has {len(classifier)} classifiers and predicts their mean; methods here"
            f" train one classifier on one pooled vector, so choose {_undistilled(name)}"
        )
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


#: what may happen to a map whose mean is the vector before the classifier
_MEANS = {"mean", "_adaptive_avg_pool2d", "avg_pool2d"}
_SHAPES = {"view", "_unsafe_view", "alias", "detach", "squeeze", "clone", "permute", "expand"}


class _Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the operations that are called within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self,
        func,
        types,
        args=(),
        kwargs=None,
    ) -> Any:
        self.names.append(func.name().removeprefix("aten::").partition(".")[0])
        return func(*args, **(kwargs or {}))


def _channel_axis(model: nn.Module, in_channels: int, image_size: int) -> int | None:
    """Which axis of the last map has the channels, if its mean over the others is ``pooled``.

    Args:
        model: weightless, in evaluation mode.
        in_channels, image_size: of its images.
    """
    timm_model = cast(Any, model)
    last = timm_model.forward_features(torch.empty(1, in_channels, image_size, image_size))
    if not isinstance(last, Tensor) or last.dim() != 4:
        return None
    with _Recorded() as recorded:
        pooled = timm_model.forward_head(last, pre_logits=True)
    names = [name for name in recorded.names if name not in _SHAPES]
    if len(names) != 1 or names[0] not in _MEANS:
        return None
    return next((axis for axis in (1, 3) if last.shape[axis] == pooled.shape[1]), None)


def _undistilled(name: str) -> str:
    import timm

    family = name.partition(".")[0]
    plain = family.replace("_distilled", "")
    return f"timm:{plain}" if plain != family and timm.is_model(plain) else "a network with one"


def _wrong_size(name: str, image_size: int, reason: object) -> UserError:
    first = (str(reason).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    return UserError(
        f"'timm:{name}' cannot process {image_size}x{image_size} images ({first}); "
        "use larger images or another model"
    )
