"""A trained student, ready to use: its network, its normalisation, and its classes' names."""

from __future__ import annotations

import dataclasses
import io
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wcordbench import registry
from wcordbench.data import base as data
from wcordbench.data.decode import Reading, decode
from wcordbench.data.reading import reading_of
from wcordbench.data.views import LUMA, View, blur, resize
from wcordbench.errors import UserError
from wcordbench.results.find import find
from wcordbench.results.groups import find_order
from wcordbench.results.scored import TEST, scored_on
from wcordbench.results.store import RunFolder, Store, file_sha256
from wcordbench.training.prediction import require_network, restored, teacher_size

#: a result's scores of the weights after the last epoch; others are of an epoch's or an average's
SCORES = ("top1", "top5", "auc")


@dataclasses.dataclass(frozen=True)
class Card:
    """What must be known of a network to use it.

    Attributes:
        run: the name of the run that trained it.
        model: the architecture, as a suite names it.
        classes: names, in the order of the logits.
        size, channels: of the images that it takes, in pixels.
        mean, std: one value a channel, of values in [0, 1].
        view: what else is done with an image before normalisation: ``blur`` (pixels), ``size``
            (pixels), ``grayscale``.
        scores: of its weights, in percent: those of :data:`SCORES` that were measured.
        scored_on: which images they are of.
        reading: what became of a decoded image before that: the values of
            :class:`wcordbench.data.decode.Reading`; None where only a plugin's code says it.
    """

    run: str
    model: str
    classes: tuple[str, ...]
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: dict[str, Any]
    scores: dict[str, float]
    scored_on: str = TEST
    reading: dict[str, Any] | None = None

    def text(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


class Student(nn.Module):
    """A trained network that takes images as they are.

    ``student(images)`` maps float32 ``(B, C, S, S)`` of values in [0, 1] to logits ``(B, K)``:
    the view and the normalisation of its training are part of it. Noise, which a suite may add
    to what a network sees, is not.

    Attributes:
        network: gives :class:`wcordbench.models.Features` of normalised images.
        card: size and channels of the images, the classes' names, the run.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network, self.card = network, card
        view = card.view
        for name, values in (("mean", card.mean), ("std", card.std), ("luma", _luma(card))):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.blur, self.grey = float(view.get("blur", 0)), bool(view.get("grayscale", False))
        self.size = int(view.get("size") or card.size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of float32 ``(B, C, S, S)`` of values in [0, 1].

        Raises:
            UserError: the images are of another type, shape or range.
        """
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if not tracing and not torch.compiler.is_compiling():
            self._check(images)
        if self.blur:
            images = blur(images, self.blur)
        if self.size != self.card.size:
            images = resize(images, self.size)
        if self.grey:
            images = (
                (images * self.luma).sum(1, keepdim=True).expand(-1, self.card.channels, -1, -1)
            )
        logits: Tensor = self.network((images - self.mean) / self.std).logits
        return logits

    def _check(self, images: Tensor) -> None:
        card = self.card
        shape, wanted = tuple(images.shape), (card.channels, card.size, card.size)
        what = f"they are {str(images.dtype).removeprefix('torch.')} of shape {shape}"
        right = images.is_floating_point() and len(shape) == 4 and shape[1:] == wanted
        if right and images.numel():
            low, high = (x.item() for x in images.aminmax())
            what = f"their values are from {low:.3g} to {high:.3g}"
            right = low >= -0.5 and high <= 1.5  # resizing overshoots; 255 and normalising do more
        if not right:
            raise UserError(
                f"{card.run} takes images (B, {', '.join(map(str, wanted))}), floating-point of"
                f" values in [0, 1], which it normalises itself, and {what}; classify() takes files"
                " and pixels of any size"
            )

    @torch.inference_mode()
    def classify(
        self, image: str | Path | NDArray[np.uint8], top: int = 5
    ) -> list[tuple[str, float]]:
        """The likeliest classes of one image, with their probabilities.

        The image is read as the test images of its training were (``card.reading``), whatever
        its size. Pixels that have been read so are for ``student(images)``.

        Args:
            image: a file, or its pixels: uint8 ``(H, W)`` or ``(H, W, C)``.
            top: how many classes.

        Raises:
            UserError: the file is not an image, or the array has another shape or type; or the
                card does not say how images are read, and ``image`` is no array of its size.
        """
        card, device = self.card, self.mean.device
        view = View(card.view, card.size, list(card.mean), list(card.std), device)
        pixels = torch.from_numpy(self.pixels(image).copy())[None]
        logits = self.network(view(pixels.to(device))).logits
        values, places = logits.float().softmax(1)[0].sort(descending=True)
        ranked = zip(places.tolist(), values.tolist(), strict=True)
        return [(card.classes[i], p) for i, p in ranked][:top]

    def pixels(self, image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image as its training had it: uint8 ``(S, S, C)``, before the view.

        Args:
            image: see :meth:`classify`.

        Raises:
            UserError: see :meth:`classify`.
        """
        card, size = self.card, (self.card.size, self.card.size)
        file = isinstance(image, str | Path)
        pixels = self._file(Path(image)) if isinstance(image, str | Path) else self._array(image)
        if card.reading is not None:
            return Reading(**card.reading)(pixels)
        if file or pixels.shape[:2] != size:
            raise UserError(
                f"{card.run} does not say how its images are read; give pixels as its dataset's"
                f" loader gives them, uint8 {(*size, card.channels)}"
            )
        return pixels

    def _file(self, file: Path) -> NDArray[np.uint8]:
        try:
            return decode(file.read_bytes(), grayscale=self.card.channels == 1)
        except OSError as error:
            raise UserError(
                f"{file} cannot be read as an image ({error.strerror or error})"
            ) from None
        except Exception as error:  # decoders raise of every kind
            raise UserError(f"{file} cannot be read as an image ({error})") from None

    def _array(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not isinstance(image, np.ndarray):
            mode = "L" if self.card.channels == 1 else "RGB"
            raise UserError(
                f"the image is a {type(image).__name__}; give a file's path, or uint8 pixels: those"
                f" of a PIL image are numpy.asarray(image.convert({mode!r}))"
            )
        pixels = image[..., None] if image.ndim == 2 else image
        channels = self.card.channels
        if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] != channels:
            raise UserError(
                f"the image is {image.dtype} of shape {image.shape}; give uint8 (H, W, {channels})"
            )
        return pixels


def _luma(card: Card) -> tuple[float, ...]:
    return LUMA if card.channels == 3 else (1 / card.channels,) * card.channels


def load_student(
    run: str | Path,
    results: str | Path = "results",
    data_root: str | Path = "data",
    device: str | torch.device = "cpu",
    plugins: Iterable[str | Path] = (),
) -> Student:
    """The trained network of a finished run, in evaluation mode.

    Args:
        run: the run's name, its beginning or its end; or the path of its folder.
        results: the results folder.
        data_root: the folder that holds datasets; read only where the run's record does not
            name the classes.
        device: where the network goes.
        plugins: files that register what the run is made of, where it was made of plugins.

    Raises:
        UserError: there is no such run, it is not finished, or its weights are missing or are
            not those that were measured; or a plugin that its prediction is made of is missing, or
            another file than it was.
    """
    for file in plugins:
        registry.add_plugin(file)
    path = Path(run)
    folder = RunFolder(path) if (path / "result.json").is_file() else find(Store(results), str(run))
    if folder.state != "done":
        raise UserError(f"{folder.path.name} is not finished; run its suite first")
    record = folder.result()
    config = record["config"]
    require_network(folder.path.name, config)
    weights = folder.path / "student.pt"
    remedy = "copy it there from where the run was trained, or train the run again"
    if not weights.is_file():
        raise UserError(f"{weights} is missing; {remedy}")
    if file_sha256(weights) != record.get("weights_sha256"):
        raise UserError(f"{weights} is not the file whose SHA-256 its result records; {remedy}")
    card = _card(folder.path.name, record, Path(data_root))
    size = int(card.view.get("size") or card.size)
    seen = (size, teacher_size(config, card.size))
    network = restored(weights, config, len(card.classes), seen, card.channels)
    return Student(network, card).eval().requires_grad_(False).to(device)


def _card(name: str, record: dict[str, Any], data_root: Path) -> Card:
    config = record["config"]
    images = record.get("images")
    if images is None:  # written before results held it
        try:
            find_order(record, data_root)
            dataset = data.load(config["dataset"], data_root)
        except UserError as error:
            raise UserError(
                f"{name} does not record its classes' names, and its dataset cannot be read:"
                f" {error}; give the folder that holds it with --data"
            ) from None
        if dataset.fingerprint() != record.get("dataset_fingerprint"):
            raise UserError(
                f"{name} does not record its classes' names, and {data_root} holds other images"
                " than it was trained on; give another folder with --data"
            )
        images = data.described(dataset)
    view = dict(config.get("view") or {})
    reading = reading_of(config["dataset"])
    return Card(
        name,
        config["model"],
        tuple(images["classes"]),
        int(images["size"]),
        int(images["channels"]),
        tuple(view.get("mean") or config["dataset"]["mean"]),
        tuple(view.get("std") or config["dataset"]["std"]),
        {k: v for k, v in view.items() if k in ("blur", "size", "grayscale")},
        {k: v for k, v in record["scores"].items() if k in SCORES},
        scored_on(config),
        None if reading is None else dataclasses.asdict(reading),
    )


# --- files ----------------------------------------------------------------------

#: each format's suffix
FORMATS = {
    "state_dict": ".pt",
    "safetensors": ".safetensors",
    "torchscript": ".ts",
    "onnx": ".onnx",
}


def packed(student: Student, form: str) -> bytes:
    """A student as a file of one of :data:`FORMATS`.

    ``state_dict`` and ``safetensors`` hold the network's weights, and the card beside them:
    who loads them normalises. ``torchscript`` and ``onnx`` take images of values in [0, 1].

    Raises:
        UserError: a package that the format needs is not installed, or the network cannot be
            written so.
    """
    write = {
        "state_dict": _state_dict, "safetensors": _safetensors,
        "torchscript": _torchscript, "onnx": _onnx,
    }[form]  # fmt: skip
    return write(student.cpu().eval())


def _state_dict(student: Student) -> bytes:
    buffer = io.BytesIO()
    card = json.loads(student.card.text())  # plain values alone, which weights_only=True reads
    torch.save({"model": student.network.state_dict(), "wcordbench": card}, buffer)
    return buffer.getvalue()


def _safetensors(student: Student) -> bytes:
    from safetensors.torch import save

    tensors = {k: v.contiguous() for k, v in student.network.state_dict().items()}
    data: bytes = save(tensors, {"wcordbench": student.card.text()})
    return data


def _example(student: Student) -> Tensor:
    card = student.card
    return torch.rand(2, card.channels, card.size, card.size, generator=torch.Generator())


def _torchscript(student: Student) -> bytes:
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        # torch.export is to come after it; sizes of images, which are fixed, are constants.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(student, _example(student))  # type: ignore[no-untyped-call]
        card = {"wcordbench.json": student.card.text()}
        torch.jit.save(traced, buffer, _extra_files=card)
    return buffer.getvalue()


def _onnx(student: Student) -> bytes:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError(
            "--format onnx needs onnx and onnxscript; install them with: pip install"
            " 'wcordbench[onnx]'"
        ) from None
    with torch.no_grad():
        program = cast(Any, torch.onnx.export)(
            student,
            (_example(student),),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "wcordbench", student.card.text()
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


__all__ = ["FORMATS", "Card", "Student", "load_student", "packed"]
