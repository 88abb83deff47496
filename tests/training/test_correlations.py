"""Class correlations of stored networks: of the right weights and views, or a clear refusal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wcordbench import models
from wcordbench.data import base as data
from wcordbench.errors import UserError
from wcordbench.results.store import Store, file_sha256
from wcordbench.suite import Suite, expand, load_suite
from wcordbench.suite.runs import Run
from wcordbench.training.correlations import correlation_differences

SUITE = """
name: maps
dataset: {name: digits, mean: [0.3], std: [0.4]}
views: {student: {size: 4}}
train: {epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, kd]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "s.yaml").write_text(SUITE)
    return load_suite(tmp_path / "s.yaml")


def store_weights(store: Store, run: Run, seed: int) -> torch.nn.Module:
    """A finished run of fresh weights."""
    torch.manual_seed(seed)
    size = run.config.get("view", {}).get("size", 8)
    model = models.create(run.config["model"], 10, size, 1)
    folder = store.folder(run)
    folder.begin(run)
    torch.save({"model": model.state_dict()}, folder.path / "student.pt")
    scores = {"top1": 10.0, "top5": 50.0, "best_top1": 10.0}
    sha256 = file_sha256(folder.path / "student.pt")
    folder.finish({"id": run.id, "config": run.config, "scores": scores, "weights_sha256": sha256})
    return model.eval()


def test_the_difference_is_that_of_both_networks_logits_on_their_views(
    suite: Suite, tmp_path: Path
) -> None:
    store, cells = Store(tmp_path / "r"), expand(suite)
    teacher, student = (store_weights(store, c.run, i) for i, c in enumerate(cells[:2]))
    found = correlation_differences(suite, cells, store, tmp_path)
    assert list(found) == ["resnet14->resnet8"]
    assert list(found["resnet14->resnet8"]) == ["Student"]  # KD is not finished
    images = data.load(cells[0].run.config["dataset"], tmp_path).test.pixels
    whole = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
    small = torch.nn.functional.avg_pool2d(whole, 2)
    with torch.no_grad():
        a, b = (m((x - 0.3) / 0.4).logits for m, x in ((teacher, whole), (student, small)))
    expected = (torch.corrcoef(a.double().T) - torch.corrcoef(b.double().T)).abs().numpy()
    np.testing.assert_allclose(found["resnet14->resnet8"]["Student"], expected, atol=1e-4)


@pytest.mark.parametrize("other", [0, 1])
def test_maps_of_other_images_than_a_runs_are_refused(
    suite: Suite, tmp_path: Path, other: int, small: data.Dataset
) -> None:
    """Also than the teacher's; a run that cut from whole images was tested on the squares."""
    store, cells = Store(tmp_path / "r"), expand(suite)
    for i, cell in enumerate(cells[:2]):
        store_weights(store, cell.run, i)
        file = store.folder(cell.run).path / "result.json"
        record = json.loads(file.read_text())
        fingerprint = small.fingerprint() + "-0123456789abcdef" * i
        file.write_text(json.dumps({**record, "dataset_fingerprint": fingerprint}))
    assert correlation_differences(suite, cells, store, tmp_path)
    file = store.folder(cells[other].run).path / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dataset_fingerprint": "0" * 16}))
    with pytest.raises(UserError) as raised:
        correlation_differences(suite, cells, store, tmp_path)
    for part in (cells[other].run.name, "on other images", "0" * 16, "--data"):
        assert part in str(raised.value)


def test_other_weights_than_the_results_are_refused(suite: Suite, tmp_path: Path) -> None:
    store, cells = Store(tmp_path / "r"), expand(suite)
    for i, cell in enumerate(cells[:2]):
        store_weights(store, cell.run, i)
    weights = store.folder(cells[1].run).path / "student.pt"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UserError, match="not the file whose SHA-256 its result records; train"):
        correlation_differences(suite, cells, store, tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="is missing; train the suite into a folder of its own"):
        correlation_differences(suite, cells, store, tmp_path)
