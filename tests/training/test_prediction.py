"""Students that predict by more than their own network: measured, stored, resumed and loaded so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cohort import until_done
from training_suite import runs_of, suite_of

from wcordbench import models, registry
from wcordbench.data.base import Dataset
from wcordbench.data.batches import TestBatches
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.correlations import correlation_differences
from wcordbench.training.deploy import load_student, packed
from wcordbench.training.learner import Learner
from wcordbench.training.prediction import require_network

Train = Callable[..., list[dict[str, Any]]]
CPU = torch.device("cpu")
#: what methods need of so small a dataset
OPTIONS = {"crd": {"negatives": 32}, "wcord": {"negatives": 32}}


@pytest.fixture
def adapted(store: Store, train: Train, tmp_path: Path) -> dict[str, Run]:
    """Finished runs of the methods that change the student."""
    names = ("simkd", "norm", "simkd+kd", "catkd")
    runs = runs_of(tmp_path, *names)
    train(*runs)
    return dict(zip(names, runs, strict=True))


def logits_of(network: torch.nn.Module, small: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    test = TestBatches(small.test, [0.5], [0.25], CPU)
    with torch.inference_mode():
        found = [(network.eval()(images).logits, labels) for images, labels in test]
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * float((logits.argmax(1) == labels).double().mean())


@pytest.mark.parametrize("name", ["simkd", "norm", "simkd+kd", "catkd"])
def test_what_is_loaded_is_what_was_measured(
    name: str, adapted: dict[str, Run], store: Store, small: Dataset
) -> None:
    folder = store.folder(adapted[name])
    student = load_student(folder.path)
    logits, labels = logits_of(student.network, small)
    scores = folder.result()["scores"]
    assert accuracy(logits, labels) == pytest.approx(scores["top1"])
    own, _ = logits_of(student.network.student, small)
    assert not torch.equal(own, logits)
    if name == "catkd":
        # It does not predict by its classifier's bias.
        assert torch.allclose(own - logits, student.network.student.fc.bias, atol=1e-5)
    if name == "simkd":
        # The teacher's classifier is a part of it, and the student's own head has learnt nothing.
        teacher = models.create("resnet14", 10, 8, 1)
        run = adapted[name].teacher
        assert run is not None
        models.load_checkpoint(teacher, store.folder(run).path / "student.pt")
        assert torch.equal(student.network.teacher_classifier.weight, teacher.fc.weight)
        with torch.random.fork_rng(devices=[]):
            fresh = Learner(
                runs_of(store.root, "student")[0], folder, None, 8, 1, 10, 5, CPU
            ).student
        assert torch.equal(student.network.student.fc.weight, fresh.fc.weight)
        assert not torch.equal(student.network.student.conv1.weight, fresh.conv1.weight)


def test_every_export_holds_it(
    adapted: dict[str, Run], store: Store, small: Dataset, tmp_path: Path
) -> None:
    student = load_student(store.folder(adapted["simkd"]).path)
    images = torch.from_numpy(small.test.pixels[:8]).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = student(images)
    (tmp_path / "simkd.ts").write_bytes(packed(student, "torchscript"))
    again = torch.jit.load(tmp_path / "simkd.ts")
    assert torch.allclose(again(images), expected, atol=1e-5)
    (tmp_path / "simkd.pt").write_bytes(packed(student, "state_dict"))
    state = torch.load(tmp_path / "simkd.pt", weights_only=True)["model"]
    assert {k.partition(".")[0] for k in state} == {"student", "objective", "teacher_classifier"}


def test_its_network_alone_is_no_teacher(adapted: dict[str, Run], store: Store) -> None:
    path = store.folder(adapted["norm"]).path / "student.pt"
    with pytest.raises(UserError, match="predicts by more than its network"):
        models.load_checkpoint(models.create("resnet8", 10, 8, 1), path)


def test_class_correlations_are_of_what_it_predicts(
    adapted: dict[str, Run], store: Store, small: Dataset, tmp_path: Path
) -> None:
    suite = load_suite(suite_of(tmp_path, ["simkd"]))
    maps = correlation_differences(suite, expand(suite), store, tmp_path)
    ((title, found),) = maps["resnet14->resnet8"].items()
    logits, _ = logits_of(load_student(store.folder(adapted["simkd"]).path).network, small)
    run = adapted["simkd"].teacher
    assert title == "SimKD" and run is not None
    known, _ = logits_of(load_student(store.folder(run).path).network, small)
    expected = [torch.corrcoef(x.double().T) for x in (known, logits)]
    assert torch.allclose(torch.from_numpy(found), (expected[0] - expected[1]).abs(), atol=1e-5)


def test_a_teachers_plugin_is_needed_where_its_parts_predict(adapted: dict[str, Run]) -> None:
    config = {**adapted["simkd"].config, "plugins": {"model mine": "0" * 16}}
    with pytest.raises(UserError, match="made of the model mine, which a plugin registers"):
        require_network("run", config)
    terms = [{"name": "kd", "weight": 1.0, "options": {}}]
    require_network("run", {**config, "method": {"name": "kd", "gamma": 1.0, "terms": terms}})


def test_two_methods_cannot_both_change_the_prediction(
    store: Store, train: Train, tmp_path: Path
) -> None:
    (run,) = runs_of(tmp_path, "simkd+norm")
    train(run)
    assert "both change what the student predicts" in store.folder(run).failure()["reason"]


def test_an_average_of_the_network_alone_is_refused(
    store: Store, train: Train, tmp_path: Path
) -> None:
    (run,) = runs_of(tmp_path, {"name": "norm", "train": {"ema": {"decay": 0.9}}})
    train(run)
    assert "train.ema averages the student's weights alone" in store.folder(run).failure()["reason"]


def test_every_method_goes_on_where_it_was(store: Store, train: Train, tmp_path: Path) -> None:
    """Interrupted after every few steps, a run of any method ends with the same bits."""
    names = sorted(registry.catalogue("method").keys() - {"fsp", "student"})
    methods: list[Any] = [{"name": n, **OPTIONS[n]} if n in OPTIONS else n for n in names]
    runs = runs_of(tmp_path, *methods)
    again = Store(tmp_path / "again")
    shutil.copytree(store.root, again.root)
    train(*runs)
    assert until_done(again, runs, 3, checkpoint_minutes=0) > 3
    for name, run in zip(names, runs, strict=True):
        one, two = (s.folder(run).result() for s in (store, again))
        assert one["weights_sha256"] == two["weights_sha256"], name
