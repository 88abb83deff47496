"""What only a GPU can show, on the GPU where there is one; on the CPU it must hold as well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wcordbench import models
from wcordbench.data.base import Dataset
from wcordbench.data.batches import dataset_batches
from wcordbench.models.fold import difference, fold
from wcordbench.results.store import Store
from wcordbench.suite import Run
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner

pytestmark = pytest.mark.cuda

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
Outcome = Callable[[Store, Run], tuple[Any, ...]]
METHODS = ["Student", "KD", "CRD", "WCoRD", "CRD+KD", "AB", "FT", "FSP"]


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Within it CUDA raises where the host waits for it."""
    if DEVICE.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_step_waits_for_the_device(
    runs: dict[str, Run], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, see, taken = Learner._update, Cohort._see, []

    def watched(one: Learner, *args: Any) -> None:
        with no_waiting():
            update(one, *args)
        taken.append(one.run.name)

    def seen(one: Cohort, *args: Any) -> Any:
        with no_waiting():
            return see(one, *args)

    monkeypatch.setattr(Learner, "_update", watched)
    monkeypatch.setattr(Cohort, "_see", seen)
    chosen = [runs[name] for name in METHODS]
    Cohort(chosen, store, Path(), DEVICE).train()
    assert set(taken) == {run.name for run in chosen}
    assert {store.folder(run).state for run in chosen} == {"done"}


def test_batches_are_the_cpus(runs: dict[str, Run], small: Dataset) -> None:
    config = runs["KD"].config
    here, there = (
        dataset_batches(config, small.train, device) for device in (torch.device("cpu"), DEVICE)
    )
    for (a, one), (b, other) in zip(here.epoch(1), there.epoch(1), strict=True):
        assert torch.equal(a, b.cpu()) and torch.equal(one.indices, other.indices.cpu())


def test_a_run_ends_near_the_cpus(runs: dict[str, Run], store: Store, alone: Any) -> None:
    run = runs["KD"]
    Cohort([run], store, Path(), DEVICE).train()
    metrics, *_ = alone(run)
    mine = store.folder(run).read_json("metrics.json")
    for one, other in zip(metrics, mine, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=0.05)


def test_a_stopped_run_goes_on(runs: dict[str, Run], store: Store, alone: Any) -> None:
    chosen = [runs["KD"], runs["CRD"]]
    answers = iter([False] * 7)
    with pytest.raises(StoppedError):
        Cohort(chosen, store, Path(), DEVICE, should_stop=lambda: next(answers, True)).train()
    Cohort(chosen, store, Path(), DEVICE).train()
    for run in chosen:
        metrics, *_ = alone(run)
        mine = store.folder(run).read_json("metrics.json")
        assert [m["learning_rate"] for m in mine] == [m["learning_rate"] for m in metrics]


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "mobilenetv2"])
def test_a_folded_teacher_sees_the_same_on_the_device(name: str) -> None:
    network = models.create(name, 10, 32).eval()
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.no_grad():
            expected = network(images)
            found = fold(network, 32).to(DEVICE)(images.to(DEVICE))
        assert difference(expected, found._replace(**_on_the_cpu(found))) < 1e-3
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _on_the_cpu(features: Any) -> dict[str, Any]:
    return {
        key: tuple(x.cpu() for x in value) if isinstance(value, tuple) else value.cpu()
        for key, value in features._asdict().items()
    }
