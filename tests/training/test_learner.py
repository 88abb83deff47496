"""The learning rate, the evaluation, and what a run trains in which stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wcordbench import models
from wcordbench.data.base import Dataset
from wcordbench.data.batches import TestBatches, dataset_batches
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Setup
from wcordbench.methods.kd import KD
from wcordbench.results.store import RunFolder
from wcordbench.seeds import derive
from wcordbench.suite import Run
from wcordbench.training import compiling
from wcordbench.training.draws import seeded
from wcordbench.training.evaluation import StoppedError, evaluate
from wcordbench.training.learner import (
    DivergedError,
    Learner,
)
from wcordbench.training.objective import Objective
from wcordbench.training.pace import Clock
from wcordbench.training.schedule import learning_rate

CPU = torch.device("cpu")


def test_the_step_schedule_is_the_papers() -> None:
    protocol = {
        "learning_rate": 0.05,
        "epochs": 240,
        "schedule": {"type": "step", "milestones": [150, 180, 210], "factor": 0.1},
    }
    steps = 782
    for epoch, want in [(0, 0.05), (149, 0.05), (150, 0.005), (179, 0.005), (180, 5e-4),
                        (209, 5e-4), (210, 5e-5), (239, 5e-5)]:  # fmt: skip
        for step in (0, steps - 1):
            got = learning_rate(protocol, epoch * steps + step, steps)
            assert got == pytest.approx(want, rel=1e-12)


def test_the_one_cycle_schedule_rises_and_falls_linearly() -> None:
    protocol = {
        "learning_rate": 0.2,
        "epochs": 3,
        "schedule": {"type": "one_cycle", "warmup": 0.25},
    }
    rates = [learning_rate(protocol, step, 5) for step in range(15)]  # progress 1/16 … 15/16
    want = [0.05, 0.10, 0.15, 0.20] + [0.2 * (16 - n) / 12 for n in range(5, 16)]
    assert rates == pytest.approx(want, rel=1e-12)
    assert min(rates) > 0
    protocol["schedule"] = {"type": "one_cycle", "warmup": 0.0}
    assert learning_rate(protocol, 0, 5) == pytest.approx(0.2 * 15 / 16)


def test_evaluation_equals_naive_accuracy(small: Dataset) -> None:
    torch.manual_seed(0)
    model = models.create("resnet8", 10, 8, 1)
    batches = TestBatches(small.test, [0.5], [0.25], CPU)
    batches.batch_size = 7  # 60 images: the last batch is smaller
    model.train()
    got = evaluate(model, batches, "fp32", CPU)
    assert model.training
    model.eval()
    top1 = top5 = 0
    loss = 0.0
    with torch.no_grad():
        for pixels, label in zip(small.test.pixels, small.test.labels.tolist(), strict=True):
            x = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
            logits = model(x).logits[0]
            order = logits.argsort(descending=True).tolist()
            top1 += order[0] == label
            top5 += label in order[:5]
            loss += F.cross_entropy(logits, torch.tensor(label)).item()
    assert got["test_top1"] == 100 * top1 / 60 and got["test_top5"] == 100 * top5 / 60
    assert got["test_loss"] == pytest.approx(loss / 60, rel=1e-5)
    assert evaluate(model, batches, "bf16", CPU)["test_loss"] != got["test_loss"]
    assert not model.training


def test_few_classes_have_a_top5_too(small: Dataset) -> None:
    model = models.create("resnet8", 3, 8, 1)
    images = [(torch.zeros(2, 1, 8, 8), torch.tensor([0, 2]))]
    assert evaluate(model, images, "fp32", CPU)["test_top5"] == 100


def test_an_evaluation_stops_between_batches(small: Dataset) -> None:
    batches = TestBatches(small.test, [0.5], [0.25], CPU)
    batches.batch_size = 20
    answers = iter([False, True])
    model = models.create("resnet8", 10, 8, 1)
    with pytest.raises(StoppedError):
        evaluate(model, batches, "fp32", CPU, lambda: next(answers))
    assert model.training and next(answers, None) is None


def test_seeded_leaves_no_trace() -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    with seeded(5):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), want)
    with pytest.raises(KeyError), seeded(5):
        assert torch.equal(torch.rand(3), inside)
        raise KeyError
    state = torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), inside)
    torch.set_rng_state(state)


def test_seeds_are_independent() -> None:
    seeds = {
        derive(s, p, n) for s in range(20) for p in ("order", "augment") for n in range(-5, 20)
    }
    assert len(seeds) == 20 * 2 * 25 and all(0 <= s < 2**63 for s in seeds)
    assert derive(0, "order", 1) == 4489457307835839548
    assert derive(1, "2") != derive(12)


class Stand:
    """A learner on the small dataset and what it needs, step by step."""

    def __init__(self, run: Run, small: Dataset, folder: Path) -> None:
        self.batches = dataset_batches(run.config, small.train, CPU)
        self.test = TestBatches(small.test, [0.5], [0.25], CPU)
        teacher = (run.config["teacher"] or {}).get("model")
        setup = None
        if teacher:
            shapes = [models.feature_shapes(m, 10, 8, 1) for m in (run.config["model"], teacher)]
            setup = Setup(*shapes, 10, self.batches.labels)
            torch.manual_seed(0)
            self.teacher = models.create(teacher, 10, 8, 1).eval()
        self.learner = Learner(run, RunFolder(folder), setup, 8, 1, 10, len(self.batches), CPU)
        self.learner.start_epoch()

    def step(self) -> None:
        images, batch = next(self.batches.epoch(self.learner.epoch, self.learner.step))
        with torch.no_grad():
            features = self.teacher(images) if self.learner.needs_teacher else None
        self.learner.train_step(images, features, batch)

    def changed(self, steps: int = 3) -> tuple[set[str], set[str]]:
        """Names of the student's and the method's parameters that steps change."""
        parts = (self.learner.student, self.learner.objective)
        before = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in parts]
        for _ in range(steps):
            self.step()
        student, method = (
            {n for n, p in m.named_parameters() if not torch.equal(p, b[n])}
            for m, b in zip(parts, before, strict=True)
        )
        return student, method


def test_a_first_stage_trains_what_it_says(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    ab = Stand(runs["AB"], small, tmp_path)
    student, method = ab.changed()
    names = {n for n, _ in ab.learner.student.named_parameters()}
    assert student == {n for n in names if not n.startswith("fc.")}
    ft = Stand(runs["FT"], small, tmp_path)
    assert not ft.learner.student.training
    running = ft.learner.student.state_dict()
    running = {k: v.clone() for k, v in running.items()}
    student, method = ft.changed()
    assert student == set() and method and all(".paraphraser." in n for n in method)
    after = ft.learner.student.state_dict()
    assert all(torch.equal(v, running[k]) for k, v in after.items())  # batch norm's too


def test_the_second_stage_starts_with_a_fresh_optimiser(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    ft = Stand(runs["FT"], small, tmp_path)
    for _ in range(5):
        ft.step()
    record = ft.learner.end_epoch(ft.test)
    assert record["epoch"] == -1 and "test_top1" not in record
    assert not ft.learner.optimizer.state and not ft.learner.in_first_stage
    ft.learner.start_epoch()
    student, method = ft.changed()
    names = {n for n, _ in ft.learner.student.named_parameters()}
    assert ft.learner.student.training and student == names
    assert method and all(".translator." in n for n in method)


def test_a_first_stage_must_be_declared(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    config = {**runs["AB"].config, "train": dict(runs["AB"].config["train"])}
    del config["train"]["first_stage"]
    with pytest.raises(UserError, match="two_stage=True"):
        Stand(Run(config), small, tmp_path)


def test_a_loss_that_is_not_finite_diverges(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    stand = Stand(runs["Student"], small, tmp_path)
    stand.step()
    stand.learner.loss_sum += float("inf")
    with pytest.raises(DivergedError, match="became inf in epoch 1"):
        stand.learner.end_epoch(stand.test)
    stand = Stand(runs["Student"], small, tmp_path)
    stand.step()
    with torch.no_grad():  # the loss was finite, and then the last step broke the weights
        next(stand.learner.student.parameters()).fill_(float("nan"))
    with pytest.raises(DivergedError, match="test images became nan in epoch 1"):
        stand.learner.end_epoch(stand.test)
    assert stand.learner.metrics == []


def test_a_checkpoint_holds_everything(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    """Two learners, one resumed from the other in the middle of an epoch, stay equal."""
    (tmp_path / "a").mkdir()
    for name in ("CRD+KD", "WCoRD", "AB"):
        first = Stand(runs[name], small, tmp_path / "a")
        for _ in range(3):
            first.step()
        first.learner.save()
        second = Stand(runs[name], small, tmp_path / "a")
        assert second.learner.resume()
        for stand in (first, second):
            stand.step()
        same(first.learner.student, second.learner.student)
        same(first.learner.objective, second.learner.objective)
        assert torch.equal(first.learner.loss_sum, second.learner.loss_sum)


def same(a: nn.Module, b: nn.Module) -> None:
    x, y = a.state_dict(), b.state_dict()
    assert x.keys() == y.keys()
    for key, value in x.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, y[key]), key
        else:  # a method's generator
            assert {k: str(v) for k, v in value.items()} == {k: str(v) for k, v in y[key].items()}


def drops(learner: Learner) -> None:
    """Have the student drop half of its first layer's output in training, as a plugin may."""
    convolution = next(m for m in learner.student.modules() if isinstance(m, nn.Conv2d))
    convolution.register_forward_hook(lambda m, _, y: F.dropout(y, 0.5, m.training))


def test_what_a_network_draws_is_decided_by_seed_epoch_and_step(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    """Whatever drew before in the process, and also after a resume within an epoch."""
    stands = [Stand(runs["Student"], small, tmp_path) for _ in range(3)]
    for stand in stands:
        drops(stand.learner)
    first, second, resumed = stands
    torch.manual_seed(1)
    for step in range(4):
        first.step()
        if step == 1:
            first.learner.save()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    for _ in range(4):
        second.step()
    assert torch.equal(torch.get_rng_state(), before)
    assert resumed.learner.resume()
    resumed.step()
    torch.rand(5)
    resumed.step()
    same(first.learner.student, second.learner.student)
    same(first.learner.student, resumed.learner.student)
    plain = Stand(runs["Student"], small, tmp_path / "plain")
    for _ in range(4):
        plain.step()
    assert not torch.equal(plain.learner.loss_sum, first.learner.loss_sum)


def test_another_teacher_does_not_go_on_with_a_student(
    runs: dict[str, Run], small: Dataset, tmp_path: Path
) -> None:
    stand = Stand(runs["KD"], small, tmp_path)
    stand.learner.teacher_sha256 = "a" * 64
    stand.learner.save()
    other = Stand(runs["KD"], small, tmp_path)
    other.learner.teacher_sha256 = "b" * 64
    with pytest.raises(UserError, match=r"other weights of its teacher taught; --retry-failed"):
        other.learner.resume()
    other.learner.teacher_sha256 = "a" * 64
    assert other.learner.resume()


def test_the_clock_goes_on_after_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock()
    now[0] += 5
    assert clock.split(keep=True) == 5
    resumed = Clock(5)
    now[0] += 2
    assert resumed.split() == 7 and resumed.split() == 0 and clock.split() == 7


def test_the_objective_is_the_weighted_sum(runs: dict[str, Run], small: Dataset) -> None:
    setup = Setup(
        models.feature_shapes("resnet8", 10, 8, 1),
        models.feature_shapes("resnet14", 10, 8, 1),
        10,
        torch.from_numpy(small.train.labels),
    )
    torch.manual_seed(0)
    networks = [models.create(m, 10, 8, 1).eval() for m in ("resnet8", "resnet14")]
    images = torch.randn(4, 1, 8, 8)
    student, teacher = (n(images) for n in networks)
    batch = Batch(torch.tensor([1, 2, 3, 4]), torch.arange(4))
    config = runs["KD"].config["method"]
    objective = Objective(config, setup)
    want = 0.1 * F.cross_entropy(student.logits, batch.labels)
    want = want + 0.9 * objective.terms[0](student, teacher, batch)
    torch.testing.assert_close(objective(student, teacher, batch), want)
    plain = Objective({"gamma": 1.0, "terms": []}, None)
    assert torch.equal(plain(student, None, batch), F.cross_entropy(student.logits, batch.labels))
    with pytest.raises(ValueError, match="needs a teacher"):
        Objective(config, None)


@pytest.mark.parametrize(
    ("loss", "said"),
    [(0.5, "is float"), (None, "is NoneType"), (torch.ones(4), r"is of shape \(4,\)")],
)
def test_a_loss_is_a_scalar_tensor(
    runs: dict[str, Run], small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    loss: Any, said: str,
) -> None:  # fmt: skip
    """A number of Python's trains nothing: the row would be the plain student's."""
    monkeypatch.setattr(KD, "forward", lambda *_: loss)
    with pytest.raises(UserError, match=f"KD.forward gives a loss that {said}; it must be"):
        Stand(runs["KD"], small, tmp_path).step()


def test_rounded_convolutions_are_not_compiled(
    tmp_path: Path, runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Learner(runs["Student"], RunFolder(tmp_path), None, 8, 1, 10, 5, CPU)
    learner.precision = "bf16"
    monkeypatch.setattr(compiling, "emulates_bf16", lambda _: True)
    learner.compile("off")
    with pytest.raises(UserError, match="--compile default cannot keep the roundings"):
        learner.compile("default")
