"""Runs that begin with given weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wcordbench import models
from wcordbench.data.base import Images
from wcordbench.data.batches import dataset_batches
from wcordbench.errors import UserError
from wcordbench.methods.base import Setup
from wcordbench.results.store import RunFolder, Store, file_sha256
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.again import train_again
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner

CPU = torch.device("cpu")

Runs = dict[str, Run]
Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of the teacher's network for 7 classes."""
    torch.manual_seed(9)
    path = tmp_path / "seven.pth"
    torch.save({"model": models.create("resnet14", 7, 8, 1).state_dict()}, path)
    return path


@pytest.fixture
def run(runs: Runs, file: Path) -> Run:
    """The teacher's run, begun with them; without a step that changes a weight."""
    config = {**runs["teacher"].config, "pretrained": file_sha256(file)}
    config["train"] = {**config["train"], "learning_rate": 1e-30}
    return Run(config, checkpoint=str(file))


def test_training_begins_with_the_file_but_for_its_classifier(
    run: Run, file: Path, store: Store, train: Train
) -> None:
    train(run)
    given = torch.load(file, weights_only=True)["model"]
    weights = torch.load(store.folder(run).path / "student.pt", weights_only=True)["model"]
    assert weights["fc.weight"].shape[0] == 10
    assert torch.equal(weights["layer3.0.conv1.weight"], given["layer3.0.conv1.weight"])


def test_it_is_part_of_the_identity_and_absent_where_it_is_not_asked_for(
    run: Run, runs: Runs
) -> None:
    assert "pretrained" not in runs["teacher"].config
    assert run.id != Run({**run.config, "pretrained": True}).id
    assert Run(run.config, checkpoint="elsewhere").id == run.id


def test_a_resumed_run_does_not_begin_anew(
    run: Run, file: Path, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, True])
    with pytest.raises(StoppedError):
        train(run, should_stop=lambda: next(asked, True))
    file.unlink()  # no longer needed
    train(run)
    assert store.folder(run).state == "done"


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (Path.unlink, "cannot be read"),
        (lambda path: path.write_bytes(b"x"), "not the file that it was"),
    ],
)
def test_a_file_that_is_not_there_stops_everything(
    damage: Callable[[Path], Any], part: str, run: Run, file: Path, store: Store, train: Train
) -> None:
    damage(file)
    with pytest.raises(UserError, match=part) as error:
        train(run)
    assert "the pretrained weights" in str(error.value)
    assert store.folder(run).state == "begun"  # nothing is wrong with the run


def test_a_librarys_weights_are_asked_for_once(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    config = {**runs["Student"].config, "pretrained": True}
    monkeypatch.setattr(
        "wcordbench.models.resnet.ResNet.load_pretrained",
        lambda _: asked.append("yes"),
        raising=False,
    )
    events = train(Run(config))
    assert asked == ["yes"]
    notes = [e["line"] for e in events if e["kind"] == "note"]
    assert notes == ["resnet8: its pretrained weights, downloaded on first use"]


def test_a_run_is_trained_again_with_its_file(
    run: Run, file: Path, store: Store, train: Train, tmp_path: Path
) -> None:
    train(run)
    stored = store.folder(run)
    with pytest.raises(UserError, match=r"began with the weights of a file.*--checkpoint"):
        train_again(stored, store, tmp_path / "no", Path(), None, lambda _: None)
    again = train_again(stored, store, tmp_path / "yes", Path(), str(file), lambda _: None)
    assert file_sha256(again.path / "student.pt") == stored.result()["weights_sha256"]


@pytest.mark.slow
def test_inception_teaches_at_its_own_size(tmp_path: Path) -> None:
    """Steps of the privileged suite's pair at 299 and 32 pixels, the teacher's own too."""
    suite = load_suite(
        Path(__file__).parents[2] / "suites" / "privileged.yaml",
        ["train.batch_size=2", "methods.0.negatives=4", "pairs.0.teacher.pretrained=false",
         "pairs.0.teacher.train.batch_size=2"],
    )  # fmt: skip
    cells = expand(suite)
    teacher = next(c.run for c in cells if c.is_teacher)
    student = next(c.run for c in cells if not c.is_teacher)
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (6, 224, 224, 1), dtype=np.uint8), np.arange(6) % 2)
    network = models.create(teacher.config["model"], 2, 299, 1)
    for run in (teacher, student):
        batches = dataset_batches(run.config, images, CPU, run.config["teacher"])
        sizes, setup = (batches.student.size, batches.teacher.size), None
        if run is student:
            assert sizes == (32, 299)
            shapes = [
                models.feature_shapes(net, 2, size, 1)
                for net, size in zip(("resnet8x4", teacher.config["model"]), sizes, strict=True)
            ]
            setup = Setup(*shapes, 2, batches.labels)
        learner = Learner(run, RunFolder(tmp_path), setup, sizes[0], 1, 2, len(batches), CPU)
        learner.start_epoch()
        seen, privileged, batch = next(batches.pairs(0))
        with torch.no_grad():
            known = network.eval()(privileged()) if run is student else None
        learner.train_step(seen, known, batch)
        assert torch.isfinite(learner.loss_sum)
