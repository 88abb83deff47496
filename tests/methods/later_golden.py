"""Reads the golden files of the methods that came after CRD, and holds methods against them.

A file ``tests/reference/later/<case>.npz`` says everything of a case: inputs ``in_s_*`` and
``in_t_*``, labels, options ``opt_*``, the method's parameters ``par_*``, its ``loss``, the
gradients ``grad_s_*`` and ``pgrad_*``, and intermediate values ``out_*``. No shape and no
option stands in the tests, so that other files with the same keys may take their place. An
adapter says which option and which parameter of a method a file's name means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wcordbench import registry
from wcordbench.methods.base import Batch, Features, Method, Setup

FOLDER = Path(__file__).parent.parent / "reference" / "later"
LOSS, GRADIENT = 1e-4, 1e-3
#: gradients that are small differences of large terms
LOOSE = {"pgrad_temperature": 2e-3}


@dataclass
class Evaluated:
    """What an adapter gives back: the loss, and tensors by the file's names.

    Attributes:
        loss: of the method, a scalar.
        parameters: those that ``pgrad_<name>`` are of.
        out: values for ``out_<name>``.
        vanishing: parameters whose gradient is zero up to rounding.
    """

    loss: Tensor
    parameters: dict[str, Tensor] = field(default_factory=dict)
    out: dict[str, Tensor] = field(default_factory=dict)
    vanishing: tuple[str, ...] = ()


class Golden:
    """One file, and the features, batch and setup that it describes."""

    def __init__(self, case: str) -> None:
        self.case = case
        #: training images of each class
        self.per_class = 4
        #: of the setup, beside shapes and labels
        self.more: dict[str, Any] = {}
        with np.load(FOLDER / f"{case}.npz") as file:
            self.data = {key: torch.from_numpy(np.array(file[key])) for key in file.files}
        self.leaves = {
            key.removeprefix("in_s_"): value.clone().requires_grad_()
            for key, value in self.data.items()
            if key.startswith("in_s_")
        }

    @property
    def key(self) -> str:
        """The name without the mark of a second case: what adapters go by."""
        return self.case.removesuffix("_x")

    def option(self, name: str) -> Any:
        """``opt_<name>`` as a Python value; arrays as lists."""
        value: Any = self.data[f"opt_{name}"].tolist()
        return value

    def raw(self, side: str) -> dict[str, Tensor]:
        """The inputs of a side (``s`` or ``t``) by name; the student's are the leaves."""
        if side == "s":
            return self.leaves
        return {k.removeprefix("in_t_"): v for k, v in self.data.items() if k.startswith("in_t_")}

    @property
    def size(self) -> int:
        """Images in the batch."""
        inputs = [v for k, v in self.data.items() if k.startswith("in_s_") and "_fc_" not in k]
        return len(inputs[0])

    @property
    def classes(self) -> int:
        """K."""
        for key in ("in_s_logits", "in_s_logits_weak", "in_t_fc_weight"):
            if key in self.data:
                return self.data[key].shape[0 if "fc" in key else 1]
        return 10

    def features(self, side: str, view: str = "") -> Features:
        """The features of a side; what the file does not have is zero.

        Args:
            side: ``s`` or ``t``.
            view: suffix of the logits' name.
        """
        given = self.raw(side)
        preact = numbered(given, "preact")
        stages = numbered(given, "stage") or tuple(x.relu() for x in preact)
        last = given.get("map", stages[-1] if stages else torch.zeros(self.size, 4, 1, 1))
        stages = stages or (last,)
        pooled = given.get("pooled", last.mean((2, 3)))
        logits = given.get(f"logits{view}", torch.zeros(self.size, self.classes))
        return Features(stages[0], stages, preact or stages, pooled, logits, last)

    def batch(self) -> Batch:
        """Labels and epoch of the file."""
        labels = self.data.get("in_labels", torch.zeros(self.size, dtype=torch.int64))
        epoch = int(self.data.get("opt_epoch", torch.tensor(1)))
        return Batch(labels, torch.arange(self.size), epoch, max(240, epoch))

    def classifier(self, side: str) -> nn.Linear:
        """The classifier of a side; the student's weights are leaves, the teacher's frozen."""
        given = self.raw(side)
        weight = given["fc_weight"]
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(given.get("fc_bias", torch.zeros(len(weight))))
        if side == "s":
            self.leaves |= {"fc_weight": linear.weight, "fc_bias": linear.bias}
        return linear.requires_grad_(side == "s")

    def setup(self) -> Setup:
        """What the method is built from."""
        student, teacher = self.features("s"), self.features("t")
        labels = torch.arange(self.per_class * self.classes) % self.classes
        return Setup(student.shapes(), teacher.shapes(), self.classes, labels, **self.more)

    def method(self, name: str, /, **options: Any) -> Method:
        """A registered method with options, in training mode."""
        built: Method = registry.get("method", name).load()(self.setup(), **options)
        return built.train()

    def fill(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give parameters, by the file's names, the file's values; every one must be given.

        A method may keep a value in another shape than the file (a 1×1 convolution as a linear
        map).
        """
        wanted = {k.removeprefix("par_") for k in self.data if k.startswith("par_")}
        assert set(parameters) == wanted
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.data[f"par_{name}"].reshape(parameter.shape))
        return parameters

    def evaluate(self, method: Method) -> Tensor:
        """The method's loss of the file's batch."""
        loss: Tensor = method(self.features("s"), self.features("t"), self.batch())
        return loss


def numbered(given: dict[str, Tensor], prefix: str, suffix: str = "") -> tuple[Tensor, ...]:
    """``prefix0suffix``, ``prefix1suffix`` … as far as there are."""
    found: list[Tensor] = []
    while (name := f"{prefix}{len(found)}{suffix}") in given:
        found.append(given[name])
    return tuple(found)


def norm(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A batch norm's scale and shift under the files' names."""
    return {f"{prefix}_bn_weight": module.weight, f"{prefix}_bn_bias": module.bias}


Adapter = Callable[[Golden], Evaluated]
ADAPTERS: dict[str, Adapter] = {}


def adapter(*keys: str) -> Callable[[Adapter], Adapter]:
    """Register an adapter for the files ``<key>.npz`` and ``<key>_x.npz``."""

    def register(function: Adapter) -> Adapter:
        for key in keys:
            ADAPTERS[key] = function
        return function

    return register


def cases(keys: Iterable[str] | None = None) -> list[str]:
    """The names of the files, of some keys or of all."""
    names = sorted(file.stem for file in FOLDER.glob("*.npz"))
    return [n for n in names if keys is None or n.removesuffix("_x") in keys]


def close(value: Tensor, expected: Tensor, tolerance: float, name: str) -> None:
    """Equal in norm and in the largest element, relative to the largest expected."""
    value, expected = value.detach().double(), expected.double()
    assert value.shape == expected.shape, name
    assert value.isfinite().all(), name
    difference = value - expected
    assert difference.norm() <= tolerance * expected.norm(), name
    assert difference.abs().max() <= tolerance * expected.abs().max(), name


def check(case: str) -> None:
    """Hold a method against a file: loss, every gradient, every value that it shows.

    Raises:
        AssertionError: they differ, or a gradient that the file has is not looked at.
    """
    golden = Golden(case)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = ADAPTERS[golden.key](golden)
    assert found.loss.shape == ()
    assert found.loss.item() == pytest.approx(golden.data["loss"].item(), rel=LOSS)
    for name, value in found.out.items():
        expected = golden.data[f"out_{name}"]
        close(torch.as_tensor(value).reshape(expected.shape), expected, GRADIENT, f"out_{name}")
    found.loss.backward()
    grads = {f"grad_s_{name}": leaf.grad for name, leaf in golden.leaves.items()}
    grads |= {f"pgrad_{name}": p.grad for name, p in found.parameters.items()}
    for name, expected in golden.data.items():
        if not name.startswith(("grad_s_", "pgrad_")):
            continue
        gradient = grads[name]
        assert gradient is not None, name
        if name.removeprefix("pgrad_") in found.vanishing:
            largest = max(g.abs().max() for g in grads.values() if g is not None)
            assert gradient.abs().max() <= GRADIENT * largest, name
            continue
        close(gradient.reshape(expected.shape), expected, LOOSE.get(name, GRADIENT), name)
