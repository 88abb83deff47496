"""A method's code that would train to the end and give a wrong number, without a word."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.methods.kd import KD
from wcordbench.results.store import Store
from wcordbench.suite import Run
from wcordbench.training.mistakes import Plain, check_taught

Runs = dict[str, Run]
Train = Callable[..., list[dict[str, Any]]]
Alone = Callable[[Run], tuple[Any, ...]]
Outcome = Callable[[Store, Run], tuple[Any, ...]]

FORWARD = KD.forward


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
    "the method's own alone": (lambda m, s: m.weight * s.logits.detach().square().mean(), False),
}


@pytest.mark.parametrize("case", list(LOSSES))
def test_a_loss_has_a_gradient_for_the_student(
    case: str, networks: tuple[nn.Module, Features, Features, Setup]
) -> None:
    _, student, _, setup = networks
    method = Own(setup)
    loss, learns = LOSSES[case]
    if learns:
        assert check_taught(method, loss(method, student), student)
    else:
        with pytest.raises(UserError, match=r"Own\.forward gives a loss without a gradient"):
            check_taught(method, loss(method, student), student)


def test_a_loss_of_the_second_view_alone(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    network, student, _, setup = networks
    second = network(torch.randn(8, 1, 8, 8))
    loss = second.logits.square().mean()
    assert check_taught(Own(setup), loss, student, second)
    with pytest.raises(UserError, match="without a gradient"):
        check_taught(Own(setup), loss.detach(), student, second)


def test_a_loss_of_no_image_is_asked_again(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    """A method that chooses among a batch's images may find none."""
    _, student, _, setup = networks
    assert not check_taught(Own(setup), torch.zeros(()), student)
    with torch.no_grad():  # nobody asks for a gradient
        assert check_taught(Own(setup), torch.ones(()), student)


def test_a_method_that_teaches_otherwise_needs_no_gradient(
    networks: tuple[nn.Module, Features, Features, Setup],
) -> None:
    class Entropy(Method):
        def cross_entropy(self, student: Features, batch: Batch) -> Tensor:
            return student.logits.square().mean()

    _, student, _, setup = networks
    assert check_taught(Entropy(setup), torch.ones(()), student)


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


class Stateful(nn.Module):
    """A module with state of every kind."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2))
        self.learned = nn.Parameter(torch.zeros(2))
        self.plain, self.number, self.names = torch.zeros(2), 0, ["a"]
        self.by_name: dict[str, Any] = {"mean": torch.zeros(2)}
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


def test_a_copy_watches_itself() -> None:
    module = Stateful()
    outer = nn.Sequential(module)
    twin_outer, twin = copy.deepcopy((outer, Plain(outer)))
    module.number = 1
    twin.check()
    twin_outer[0].number = 1
    with pytest.raises(UserError):
        twin.check()
