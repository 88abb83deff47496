"""Training on a device that holds no values: nothing waits for it, nothing is mixed with the CPU.

torch's ``meta`` device has shapes and no values: whoever asks it for one raises. What it does not
refuse, products of its tensors with the CPU's, :class:`OneDevice` does. Nothing here needs a GPU,
and what passes here makes no CUDA device wait within an epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import optimizer as torch_optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from wcordbench import models, registry
from wcordbench.data import base
from wcordbench.data.base import Dataset, Images
from wcordbench.data.views import View
from wcordbench.methods.base import Batch, Features, SecondView, Setup
from wcordbench.methods.kd import KD
from wcordbench.models.fold import fold
from wcordbench.models.resnet import ResNet
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training import cohort as cohort_module
from wcordbench.training import evaluation, learner, optimizer, prediction
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner
from wcordbench.training.objective import Objective, undefined
from wcordbench.training.precision import autocast

META = torch.device("meta")
PAIRS = {
    "resnet14->resnet8": ("resnet14", "resnet8"),
    "wrn_16_2->vgg8": ("wrn_16_2", "vgg8"),
    "vgg8->resnet8x4": ("vgg8", "resnet8x4"),
}
#: every registered method, and what else takes another way through a step
METHODS: dict[str, str] = {
    **{name: name for name in registry.catalogue("method")},
    "crd, few negatives": "{name: crd, negatives: 32, label: few}",
    "wcord, few negatives": "{name: wcord, negatives: 32, label: fewer}",
    "wcord, dual critic": "{name: wcord, critic: dual, label: dual}",
    "crd+kd": "crd+kd",
}
SUITE = """
name: shapes
dataset: {{name: digits, mean: [0.5], std: [0.25]}}
train:
  epochs: 1
  batch_size: 100
  learning_rate: 0.05
  schedule: {{type: one_cycle}}
  augment: {{crop_padding: 1, flip: true}}
  first_stage: {{epochs: 1, learning_rate: 0.01}}
seeds: [0]
pairs:
  - teacher: {{model: {teacher}, checkpoint: {checkpoint}, allow_chance: true}}
    student: {student}
methods: [{method}]
"""


class MixedError(Exception):
    """An operation took or gave a tensor of another device."""


COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_, torch.ops.aten.to)


class OneDevice(TorchDispatchMode):
    """Within it no operation mixes devices.

    Attributes:
        host: whether the CPU may work beside the device, and copy to it.
    """

    host = True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within it the CPU may not."""
        self.host = False
        try:
            yield
        finally:
            self.host = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Carry an operation out, and look at what it took and gave."""
        kwargs = kwargs or {}
        given = func(*args, **kwargs)
        devices = {x.device.type for x in _tensors((*args, *kwargs.values(), given))}
        copies = func.overloadpacket in COPIES
        if len(devices) > 1 and not (self.host and copies):
            raise MixedError(f"{func} mixes devices: {', '.join(sorted(devices))}")
        if not self.host and "cpu" in devices:
            raise MixedError(f"{func} works on the CPU")
        return given


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _fused(*lists: list[Tensor], **options: Any) -> None:
    """What torch has of a fused optimiser's step for CUDA: its tensors are of one device."""
    assert options["lr"].device.type == "meta"
    assert {x.device.type for each in lists for x in each} == {"meta"}


@contextlib.contextmanager
def equipped() -> Iterator[pytest.MonkeyPatch]:
    """Within it ``meta`` has what CUDA has: fused optimisers, autocast, random generators."""
    supported, autocast, generator = (
        torch_optimizer._get_fused_kernels_supported_devices, torch.autocast, torch.Generator,
    )  # fmt: skip

    def cast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        if device_type == "meta":
            return contextlib.nullcontext()
        return autocast(device_type, *args, **kwargs)

    enabled = torch.is_autocast_enabled

    class Drawn:  # a class, as others name it in annotations
        def __new__(cls, device: Any = "cpu") -> Any:
            return generator("cpu" if torch.device(device) == META else device)

    with (
        torch.library._scoped_library("aten", "IMPL") as lib,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("_fused_sgd_.tensor_lr", "_fused_adamw_.tensor_lr"):
            lib.impl(name, _fused, "Meta")
        patch.setattr(
            torch_optimizer, "_get_fused_kernels_supported_devices", lambda: [*supported(), "meta"]
        )
        patch.setattr(optimizer, "FUSED", (*optimizer.FUSED, "meta"))
        patch.setattr(torch, "autocast", cast)
        patch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and enabled(kind))
        patch.setattr(torch, "Generator", Drawn)
        yield patch


class Watched:
    """Cohorts trained on ``meta``, and what they did.

    Attributes:
        stages: of each run's steps, whether they were of a first stage.
        reads: how often the host asked for numbers.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stages: dict[str, list[bool]] = {}
        self.reads = 0
        self.mode = OneDevice()
        update, see = Learner._update, Cohort._see

        def watched_update(one: Learner, *args: Any) -> None:
            self.stages.setdefault(one.run.name, []).append(one.in_first_stage)
            with self.mode.alone():
                update(one, *args)

        def watched_see(one: Cohort, *args: Any) -> Features:
            with self.mode.alone():
                return see(one, *args)

        def read(*values: Tensor) -> list[float]:
            assert all(value.device == META for value in values)
            self.reads += 1
            return [1.0] * len(values)

        def fetch(values: Tensor) -> Tensor:
            assert values.device == META
            return torch.zeros(values.shape, dtype=values.dtype)

        patch.setattr(Learner, "_update", watched_update)
        patch.setattr(Cohort, "_see", watched_see)
        for module in (learner, evaluation):
            patch.setattr(module, "read", read)
        for module in (prediction, evaluation):
            patch.setattr(module, "fetch", fetch)

    def train(self, runs: list[Run], results: Path, **options: Any) -> dict[str, str]:
        """Train runs together; why each of them failed, or "" where it did not."""
        store = Store(results)
        with self.mode:
            Cohort(runs, store, Path(), META, **options).train()
        reasons = {}
        for run in runs:
            folder = store.folder(run)
            failure = folder.failure() if folder.state != "done" else {"kind": "", "reason": ""}
            reasons[run.name] = f"{failure['kind']}: {failure['reason']}".removeprefix(": ")
        return reasons


def runs_of(folder: Path, pair: str, *methods: str, more: str = "") -> list[Run]:
    """The students' runs of a pair, whose teacher is a file of fresh weights."""
    teacher, student = PAIRS[pair]
    checkpoint, suite = folder / f"{teacher}.pt", folder / "suite.yaml"
    if not checkpoint.exists():
        torch.save(models.create(teacher, 10, 32, 1).state_dict(), checkpoint)
    text = SUITE.format(
        teacher=teacher, student=student, checkpoint=checkpoint, method=", ".join(methods)
    )
    suite.write_text(text + more)
    return [cell.run for cell in expand(load_suite(suite)) if cell.method is not None]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """What every dataset is in these tests: 32×32, two batches an epoch, the last one smaller."""

    def images(count: int) -> Images:
        return Images(np.zeros((count, 32, 32, 1), np.uint8), np.arange(count) % 10)

    dataset = Dataset(images(150), images(60), tuple("0123456789"))
    monkeypatch.setattr(base, "load", lambda *_: dataset)
    monkeypatch.setattr(cohort_module, "environment", lambda _: {"threads": 1})
    return dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Of a pair, for every method: why it failed, and its steps' stages."""
    known: dict[str, dict[str, Any]] = {}

    def of(pair: str) -> dict[str, Any]:
        if pair not in known:
            folder = tmp_path_factory.mktemp("meta")
            runs = runs_of(folder, pair, *METHODS.values())
            with equipped() as patch:
                watched = Watched(patch)
                reasons = watched.train(runs, folder / "results")
            known[pair] = {
                name: (reasons[run.name], watched.stages.get(run.name, []))
                for name, run in zip(METHODS, runs, strict=True)
            }
        return known[pair]

    return of


STAGES = [
    (name, stage)
    for name in METHODS
    for stage in ("first stage", "main")
    if stage == "main"
    or (name in registry.catalogue("method") and registry.get("method", name).two_stage)
]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("method", "stage"), STAGES)
def test_every_method_trains_without_asking_the_device(
    trained: Callable[[str], dict[str, Any]], pair: str, method: str, stage: str
) -> None:
    reason, stages = trained(pair)[method]
    if not stages:  # undefined for the pair: it says so before it is built
        assert reason.startswith("undefined: ")
        return
    assert reason == ""
    # two batches an epoch, the second one smaller
    assert stages.count(stage == "first stage") == 2


def test_the_host_asks_once_for_an_epochs_training_and_once_for_its_test(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "resnet14->resnet8", "kd", "ft", "vid")
    with equipped() as patch:
        watched = Watched(patch)
        assert set(watched.train(runs, tmp_path / "results").values()) == {""}
    # and once for the epoch of the first stage, once for the teacher's test
    assert watched.reads == 2 * len(runs) + 2


def test_a_stop_writes_checkpoints_that_training_goes_on_from(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "resnet14->resnet8", "kd", "vid", "ab")
    events: list[dict[str, Any]] = []
    with equipped() as patch:
        watched = Watched(patch)
        answers = iter([False] * 4)
        with pytest.raises(StoppedError):
            watched.train(runs, tmp_path / "results", should_stop=lambda: next(answers, True))
        reasons = watched.train(runs, tmp_path / "results", report=events.append)
    assert set(reasons.values()) == {""}
    resumed = [event["run"] for event in events if event["kind"] == "resumed"]
    assert sorted(resumed) == sorted(run.name for run in runs)


VIEWS = """
views:
  teacher: {size: 40}
  student: {size: 16, grayscale: true, noise: 0.1, blur: 0.5}
"""


def test_views_and_noise_are_made_on_the_device(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "resnet14->resnet8", "kd", more=VIEWS)
    with equipped() as patch:
        assert set(Watched(patch).train(runs, tmp_path / "results").values()) == {""}


def _ask(x: Tensor) -> Tensor:
    x.sum().item()
    return x


def _mix(x: Tensor) -> Tensor:
    return x[torch.arange(len(x))]  # as CUDA does, meta takes the CPU's indices for its own


def _in_a_method(spoil: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    forward = KD.forward

    def spoilt(self: KD, student: Features, *rest: Any) -> Tensor:
        return forward(self, student._replace(logits=spoil(student.logits)), *rest)

    patch.setattr(KD, "forward", spoilt)


def _in_a_network(spoil: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    forward = ResNet.forward
    patch.setattr(ResNet, "forward", lambda self, x: forward(self, spoil(x)))


def _in_the_batches(spoil: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    call = View.__call__
    patch.setattr(View, "__call__", lambda self, x, *rest: call(self, spoil(x), *rest))


def _in_the_step(spoil: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    loss = Objective.loss

    def spoilt(self: Objective, student: Features, teacher: Any, batch: Batch) -> Tensor:
        return loss(self, student, teacher, batch._replace(labels=spoil(batch.labels)))

    patch.setattr(Objective, "loss", spoilt)


@pytest.mark.parametrize("spoil", [_ask, _mix])
@pytest.mark.parametrize("plant", [_in_a_method, _in_a_network, _in_the_batches, _in_the_step])
def test_what_would_wait_or_mix_is_caught(
    plant: Callable[..., None], spoil: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    (run,) = runs_of(tmp_path, "resnet14->resnet8", "kd")
    with equipped() as patch:
        plant(spoil, patch)
        reason = Watched(patch).train([run], tmp_path / "results")[run.name]
    assert ("item() cannot be called" if spoil is _ask else "MixedError") in reason


# --- CUDA as far as it goes without one: FakeTensor has its devices, dtypes and autocast ---


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Within it tensors on CUDA have shapes, dtypes and no values."""
    generator = torch.Generator

    class Drawn:
        def __new__(cls, *_: Any) -> Any:
            return generator()

    monkeypatch.setattr(torch, "Generator", Drawn)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    return FakeTensorMode(allow_non_fake_inputs=False)


def onto(module: Any, mode: FakeTensorMode) -> Any:
    """A module with its parameters and buffers on CUDA; what it holds elsewhere stays."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, x in held.items():
                if x is not None:
                    with mode:
                        fake = torch.empty_strided(
                            x.shape, x.stride(), dtype=x.dtype, device="cuda"
                        )
                    held[name] = nn.Parameter(fake) if isinstance(x, nn.Parameter) else fake
    return module


@pytest.mark.parametrize("pair", PAIRS)
def test_autocast_reaches_networks_and_losses_are_exact(cuda: FakeTensorMode, pair: str) -> None:
    size, labels, device = 32, torch.arange(150) % 10, torch.device("cuda")
    teacher, student = (onto(models.create(name, 10, size), cuda) for name in PAIRS[pair])
    shapes = [models.feature_shapes(name, 10, size) for name in reversed(PAIRS[pair])]
    setup = Setup(shapes[0], shapes[1], 10, labels)
    with cuda:
        images = torch.zeros(8, 3, size, size, device=device)
        indices = torch.arange(8, device=device)
        with torch.no_grad(), autocast("bf16", device):
            known = teacher(images)
        with autocast("bf16", device):
            shown = student(images)
        assert shown.logits.dtype == known.logits.dtype == torch.bfloat16
    for name in registry.catalogue("method"):
        terms = [] if name == "student" else [{"name": name, "weight": 1.0, "options": {}}]
        config = {"gamma": 1.0, "terms": terms}
        if undefined(config, setup):
            continue
        objective = onto(Objective(config, setup), cuda)
        objective.manual_seed(0)
        with cuda, autocast("bf16", device):
            batch = Batch(indices, indices, second=SecondView(shown, known))
            losses = [objective(shown, known, batch)]
            if any(m.first_stage for m in objective.methods):
                losses.append(objective.first_stage_loss(shown, known, batch))
        assert {(x.dtype, x.device.type) for x in losses} == {(torch.float32, "cuda")}, name


@pytest.mark.parametrize("name", ["resnet14", "wrn_16_2", "vgg8", "mobilenetv2", "shufflenetv1"])
def test_a_folded_teacher_runs_on_the_device(cuda: FakeTensorMode, name: str) -> None:
    network = models.create(name, 10, 32).eval()
    folded = fold(network, 32)
    assert folded is not network
    with cuda, torch.no_grad(), autocast("bf16", torch.device("cuda")):
        found = onto(folded, cuda)(torch.zeros(4, 3, 32, 32, device="cuda"))
    assert found.shapes() == models.feature_shapes(name, 10, 32)
    assert found.pooled.device.type == "cuda"
