"""Scores of held-out training images are never called those of test images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
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
