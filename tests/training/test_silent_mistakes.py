"""A method's code that would train to the end and give a wrong number, without a word."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.crd import CRD
from wcordbench.methods.kd import KD
from wcordbench.results.store import Store
from wcordbench.suite import Run
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.mistakes import Plain, teaches

Runs = dict[str, Run]
Train = Callable[..., list[dict[str, Any]]]
Alone = Callable[[Run], tuple[Any, ...]]
Outcome = Callable[[Store, Run], tuple[Any, ...]]

FORWARD, CRD_FORWARD = KD.forward, CRD.forward


@pytest.fixture
def networks() -> tuple[nn.Module, Features, Features, Setup]:
    """A student, its features and the teacher's, and what a method is built for."""
    torch.manual_seed(0)
    student, teacher = (models.create(n, 10, 8, 1) for n in ("resnet8", "resnet14"))
    images = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        known = teacher(images)
    shapes = [models.feature_shapes(n, 10, 8, 1) for n in ("resnet8", "resnet14")]
    setup = Setup(*shapes, 10, torch.arange(40) % 10, models.classifier_of(student))
    return student, student(images), known, setup


class Own(Method):
    """A method with parameters of its own, which may have a gradient where the student has none."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.weight = nn.Parameter(torch.ones(()))


def product(method: Method, student: Features) -> Tensor:
    assert method.setup.student_classifier is not None
    return next(method.setup.student_classifier.parameters()).square().mean()


#: a loss, and whether the student learns from it
LOSSES: dict[str, tuple[Callable[[Own, Features], Tensor], bool]] = {
    "of the logits": (lambda _, s: s.logits.square().mean(), True),
    "of a stage": (lambda _, s: s.stages[0].square().mean(), True),
    "of the classifier's weights": (product, True),
    "the logits' sum, through the method's weight": (lambda m, s: m.weight * s.logits.sum(), True),
    "detached": (lambda _, s: s.logits.detach().square().mean(), False),
    "a new tensor": (lambda _, s: torch.tensor(s.logits.square().mean().item()), False),
}


@pytest.mark.parametrize("case", list(LOSSES))
def test_a_loss_has_a_gradient_for_the_student(
    case: str, networks: tuple[nn.Module, Features, Features, Setup]
) -> None:
    _, student, _, setup = networks
    method = Own(setup)
    loss, learns = LOSSES[case]
    if learns:
        assert teaches(method, loss(method, student), student)
    else:
        with pytest.raises(UserError, match=r"Own\.forward gives a loss without a gradient"):
            teaches(method, loss(method, student), student)


def test_a_loss_of_the_second_view_alone(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    network, student, _, setup = networks
    second = network(torch.randn(8, 1, 8, 8))
    loss = second.logits.square().mean()
    assert teaches(Own(setup), loss, student, second)
    with pytest.raises(UserError, match="without a gradient"):
        teaches(Own(setup), loss.detach(), student, second)


def test_a_loss_of_no_image_is_asked_again(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    """A method that chooses among a batch's images may find none."""
    _, student, _, setup = networks
    assert teaches(Own(setup), torch.zeros(()), student) is None
    with torch.no_grad():  # nobody asks for a gradient
        assert teaches(Own(setup), torch.ones(()), student) is None


def test_a_loss_of_the_methods_own_parameters_teaches_nobody_yet(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    _, student, _, setup = networks
    method = Own(setup)
    loss = method.weight * student.logits.detach().square().mean()
    assert teaches(method, loss, student) is False


def test_a_method_that_teaches_otherwise_needs_no_gradient(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    class Entropy(Method):
        def cross_entropy(self, student: Features, batch: Batch) -> Tensor:
            return student.logits.square().mean()

    _, student, _, setup = networks
    assert teaches(Entropy(setup), torch.ones(()), student)


def detached(self: KD, student: Features, teacher: Features, batch: Batch) -> Tensor:
    return FORWARD(self, student.detach(), teacher, batch)


def counting(self: Any, student: Features, teacher: Features, batch: Batch) -> Tensor:
    self.calls = getattr(self, "calls", 0) + 1
    return FORWARD(self, student, teacher, batch) / self.calls


def remembering(self: Any, student: Features, teacher: Features, batch: Batch) -> Tensor:
    mean = getattr(self, "mean", student.logits.new_zeros(10))
    self.mean = 0.9 * mean + 0.1 * student.logits.mean(0).detach()
    return FORWARD(self, student, teacher, batch) + self.mean.sum()


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (detached, "KD.forward gives a loss without a gradient for the student"),
        (counting, "KD.calls changes while training, and no checkpoint holds it"),
        (remembering, "KD.mean changes while training, and no checkpoint holds it"),
    ],
)
def test_such_a_run_fails_and_those_beside_it_do_not(
    forward: Any, said: str, runs: Runs, store: Store, train: Train, alone: Alone,
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(KD, "forward", forward)
        train(runs["KD"], runs["CRD"], runs["Student"])
    assert said in store.folder(runs["KD"]).failure()["reason"]
    for other in (runs["CRD"], runs["Student"]):
        assert outcome(store, other) == alone(other)


def critic_first(self: Any, student: Features, teacher: Features, batch: Batch) -> Tensor:
    """Trains the method's own parameters in the first epochs, as a critic is."""
    if batch.epoch <= batch.epochs - self.taught_epochs:
        first = next(self.parameters())
        return first.square().mean() * student.pooled.detach().mean()
    return CRD_FORWARD(self, student, teacher, batch)


@pytest.mark.parametrize("taught_epochs", [0, 1])
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_method_may_train_its_own_parameters_before_the_student(
    taught_epochs: int, interrupted: bool, runs: Runs, store: Store, train: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(CRD, "taught_epochs", taught_epochs, raising=False)
    monkeypatch.setattr(CRD, "forward", critic_first)
    if interrupted:
        taken = iter(range(1000))
        with pytest.raises(StoppedError):
            train(runs["CRD"], should_stop=lambda: next(taken) >= 6)
    events = train(runs["CRD"])
    notes = [e["line"] for e in events if e["kind"] == "note"]
    if not interrupted:
        assert any("CRD has trained its own parameters alone so far" in line for line in notes)
    folder = store.folder(runs["CRD"])
    if taught_epochs:
        assert folder.state == "done", folder.failure()
    else:
        assert "without a gradient for the student" in folder.failure()["reason"]


class Stateful(nn.Module):
    """A module with state of every kind."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2))
        self.learned = nn.Parameter(torch.zeros(2))
        self.plain, self.number, self.names = torch.zeros(2), 0, ["a"]
        self.by_name: dict[str, Any] = {"mean": torch.zeros(2)}
        self.array, self.draws = np.zeros(2), torch.Generator()
        self.numpy_draws, self.python_draws = np.random.default_rng(0), random.Random(0)
        self._cache: Any = None
        self.inner = nn.BatchNorm1d(2)


#: what is done to it, and which attribute no checkpoint would hold
CHANGES: dict[str, tuple[Callable[[Any], object], str | None]] = {
    "nothing": (lambda _: None, None),
    "a buffer": (lambda m: m.kept.add_(1), None),
    "a parameter": (lambda m: m.learned.data.add_(1), None),
    "batch norm": (lambda m: m.inner(torch.randn(4, 2)), None),
    "a cache": (lambda m: setattr(m, "_cache", torch.ones(2)), None),
    "a mode": (lambda m: m.eval(), None),
    "a tensor in place": (lambda m: m.plain.add_(1), "plain"),
    "a tensor by another": (lambda m: setattr(m, "plain", torch.ones(2)), "plain"),
    "a number": (lambda m: setattr(m, "number", 1), "number"),
    "a list": (lambda m: m.names.append("b"), "names"),
    "a dict's tensor": (lambda m: m.by_name["mean"].add_(1), "by_name"),
    "an attribute that is new": (lambda m: setattr(m, "late", 1), "late"),
    "an array": (lambda m: m.array.__iadd__(1), "array"),
    "torch's draws": (lambda m: torch.rand((), generator=m.draws), "draws"),
    "NumPy's draws": (lambda m: m.numpy_draws.random(), "numpy_draws"),
    "Python's draws": (lambda m: m.python_draws.random(), "python_draws"),
}


@pytest.mark.parametrize("case", list(CHANGES))
def test_state_that_no_checkpoint_holds(case: str) -> None:
    change, name = CHANGES[case]
    module = Stateful()
    plain = Plain(nn.Sequential(module))
    change(module)
    if name is None:
        plain.check()
    else:
        with pytest.raises(
            UserError, match=rf"Stateful\.{name} changes.*register_buffer\('{name}'"
        ):
            plain.check()


class Counted(nn.Module):
    """Has an extra state of its own, in which its number is."""

    calls = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


class Linear(nn.Linear):
    """A user's."""


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_a_checkpoint_holds_under_another_name_may_change() -> None:
    normed = nn.utils.spectral_norm(Linear(2, 2))
    split = nn.utils.weight_norm(Linear(2, 2))
    outer = nn.Sequential(Counted(), normed, split)
    plain = Plain(outer)
    outer[0].calls = 3
    for _ in range(2):
        split(normed(torch.ones(1, 2))).sum().backward()
        with torch.no_grad():
            for parameter in outer.parameters():
                parameter.add_(1)
    plain.check()


def test_a_copy_watches_itself() -> None:
    module = Stateful()
    outer = nn.Sequential(module)
    twin_outer, twin = copy.deepcopy((outer, Plain(outer)))
    module.number = 1
    twin.check()
    twin_outer[0].number = 1
    with pytest.raises(UserError):
        twin.check()
