"""What methods may ask of the loop: schedules, rates, epochs, a second view, a pass before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_suite import runs_of

from wcordbench import models, ramp
from wcordbench.methods.base import Batch, cross_entropy
from wcordbench.methods.dkd import DecoupledKD
from wcordbench.methods.mlkd import MultiLevelKD
from wcordbench.methods.wkd_l import WassersteinLogits
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite import Run
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner
from wcordbench.training.objective import objective, setup_of

Train = Callable[..., list[dict[str, Any]]]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, {1: 1.0, 240: 1.0}),
        ({"warmup": {"epochs": 20}}, {1: 0.05, 20: 1.0, 21: 1.0, 240: 1.0}),
        ({"cosine": {"after": 150}}, {1: 1.0, 150: 1.0, 195: 0.5, 240: 0.0}),
        ({"steps": {"until": [10, 20], "factors": [0.1, 0.5, 1.0]}}, {9: 0.1, 10: 0.5, 20: 1.0}),
    ],
)
def test_a_weight_follows_its_schedule(
    schedule: dict[str, Any] | None, expected: dict[int, float]
) -> None:
    for epoch, factor in expected.items():
        assert ramp.factor(schedule, epoch, 240) == pytest.approx(factor)


def networks() -> tuple[torch.nn.Module, torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    student, teacher = (models.create(n, 10, 8, 1).eval() for n in ("resnet8", "resnet14"))
    return student, teacher, torch.randn(4, 1, 8, 8)


def test_the_loss_is_weighed_by_the_epoch() -> None:
    student, teacher, images = networks()
    loss_of = objective("dkd", student, teacher, images, torch.arange(40) % 10, beta=2.0)
    s, t, labels = student(images), teacher(images), torch.arange(4)
    own = loss_of.methods[0](s, t, Batch(labels, labels))
    for epoch, weight in ((1, 0.1), (10, 1.0), (20, 2.0), (240, 2.0)):
        batch = Batch(labels, labels, epoch, 240)
        expected = cross_entropy(s, batch) + weight * own
        assert loss_of(s, t, batch).item() == pytest.approx(expected.item())
    constant = objective(
        "dkd", student, teacher, images, torch.arange(40) % 10, schedule="constant"
    )
    assert constant.schedules == [None]


def test_methods_own_parameters_have_their_rate(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, {"name": "srrl+kd", "lr_factor": 10.0})
    assert run.config["method"]["terms"][0]["lr_factor"] == 10
    setup = setup_of(run.config, 10, (8, 8), 1, torch.arange(40) % 10, CPU, networks()[1])
    learner = Learner(run, RunFolder(tmp_path / "run"), setup, 8, 1, 10, 5, CPU)
    learner.start_epoch()
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    with torch.no_grad():
        known = networks()[1](images)
    learner.train_step(images, known, Batch(labels, labels))
    usual, own = learner.optimizer.param_groups
    learner.step -= 1
    assert usual["lr"].item() == pytest.approx(learner.rate())
    assert own["lr"].item() == pytest.approx(10 * learner.rate())
    assert {id(p) for p in own["params"]} == {id(p) for p in learner.objective.parameters()}


def test_batches_carry_the_epoch(
    store: Store, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    forward = DecoupledKD.forward

    def look(self: DecoupledKD, student: Any, teacher: Any, batch: Batch) -> torch.Tensor:
        seen.append((batch.epoch, batch.epochs))
        return forward(self, student, teacher, batch)

    monkeypatch.setattr(DecoupledKD, "forward", look)
    train(*runs_of(tmp_path, "dkd"))
    assert seen == [(1, 2)] * 5 + [(2, 2)] * 5


def test_a_second_view_is_for_those_that_ask(
    store: Store,
    train: Train,
    runs: dict[str, Run],
    alone: Callable[[Run], tuple[Any, ...]],
    outcome: Callable[[Store, Run], tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    views = []
    forward = MultiLevelKD.forward

    def look(self: MultiLevelKD, student: Any, teacher: Any, batch: Batch) -> torch.Tensor:
        views.append(batch.second)
        return forward(self, student, teacher, batch)

    monkeypatch.setattr(MultiLevelKD, "forward", look)
    (mlkd,) = runs_of(tmp_path, "mlkd")
    train(mlkd, runs["KD"])
    assert outcome(store, runs["KD"]) == alone(runs["KD"])
    assert len(views) == 10 and all(v is not None for v in views)
    assert views[0].student.logits.requires_grad and not views[0].teacher.logits.requires_grad


def test_the_teacher_is_seen_once_before_training(
    store: Store, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[list[int]] = []
    prepare = WassersteinLogits.prepare

    def look(self: WassersteinLogits, teacher: Any) -> None:
        passes.append([len(labels) for _, labels in teacher])
        prepare(self, teacher)

    monkeypatch.setattr(WassersteinLogits, "prepare", look)
    (run,) = runs_of(tmp_path, "wkd_l")
    stops = iter([False] * 8 + [True] * 100)
    with pytest.raises(StoppedError):
        train(run, should_stop=lambda: next(stops))
    assert store.folder(run).state == "begun"
    train(run)
    assert passes == [[150]]  # what it found was in the checkpoint
