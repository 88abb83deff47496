"""A table says of which images its scores are: held-out, test, or those of a measurement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite
from wcordbench.training.cohort import Cohort

SUITE = """
name: held
dataset: {name: digits, mean: [0.3058], std: [0.3764], holdout: 100}
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student]
"""


def test_a_list_and_an_export_say_which_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("held.yaml").write_text(SUITE)
    run = next(c.run for c in expand(load_suite(Path("held.yaml"))) if c.method)
    Cohort([run], Store("results"), tmp_path, torch.device("cpu")).train()
    listed = CliRunner().invoke(app, ["best"])
    assert "(on 100 held-out training images)" in listed.output
    rows = json.loads(CliRunner().invoke(app, ["best", "--format", "json"]).output)
    assert [row["images"] for row in rows] == ["100 held-out training images"]
    wrote = CliRunner().invoke(app, ["export", run.name, "--format", "state_dict"])
    assert "on 100 held-out training images" in wrote.output, wrote.output
    assert "test images" not in wrote.output


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs of two seeds, each measured as ``photos``, but on other images than the other."""
    monkeypatch.chdir(tmp_path)
    text = SUITE.replace("seeds: [0]", "seeds: [0, 1]").replace("digits,", "digits, title: Mine,")
    Path("held.yaml").write_text(text)
    runs = [c.run for c in expand(load_suite(Path("held.yaml"))) if c.method]
    for run in runs:
        Cohort([run], Store("results"), tmp_path, torch.device("cpu")).train()
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(10):
            place = tmp_path / "photos" / split / str(label)
            place.mkdir(parents=True)
            pixels = draw.integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "0.png")
    photos = "{name: imagefolder, options: {folder: photos, image_size: 8, grayscale: true}}"
    for run, dataset in zip(runs, ("digits", photos), strict=True):
        words = ["evaluate", run.name, "--dataset", dataset, "--name", "photos", "--data", "."]
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, found.output
    return [run.name for run in runs]


def _table(metric: str, form: str = "text") -> str:
    words = ["table", "held.yaml", "--metric", metric, "--format", form]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_measurement_is_not_of_the_images_held_out(measured: list[str]) -> None:
    for form in ("text", "markdown", "latex", "json"):
        out = _table("photos", form)
        assert "held out" not in out and "test images were not used" not in out
        assert "Trained on: Mine." in out and "Dataset: Mine." not in out
    plain = CliRunner().invoke(app, ["table", "held.yaml"]).output
    assert "100 training images held out" in plain and "the test images were not used" in plain
    assert "Dataset: Mine." in plain


def test_seeds_measured_on_other_images_are_not_comparable(measured: list[str]) -> None:
    said = "NOT comparable with each other: 'photos' was measured on other images"
    assert said in _table("photos") and said in _table("photos/top5")
    for number, name in enumerate(measured):
        again = [name, "--dataset", "digits", "--name", "again"]
        for words in (["evaluate", *again], ["probe", *again, "--c", ("1.0", "0.5")[number]]):
            assert CliRunner().invoke(app, words).exit_code == 0
    assert "NOT comparable" not in _table("again")
    assert "NOT comparable with each other: 'probe:again'" in _table("probe:again")
