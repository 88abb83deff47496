"""``table --size``: what is deployed of a student, and what it costs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench import models
from wcordbench.cli.main import app
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite
from wcordbench.training.size import size_of

SUITE = """
name: sizes
dataset: {name: cifar100, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
train: {epochs: 1, batch_size: 64, learning_rate: 0.1, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet56, student: resnet20}]
methods: [student, kd, simkd, norm, crd]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "sizes.yaml"
    path.write_text(SUITE)
    return path


def test_sizes_are_of_what_predicts(suite: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    found = {}
    for cell in expand(load_suite(suite)):
        found[cell.method.title if cell.method else "Teacher"] = size_of(cell.run, store)
    student = 278_324
    plain = (student, models.macs("resnet20", 100))
    assert found["Student"] == found["KD"] == found["CRD"] == plain
    assert found["Teacher"] == (861_620, models.macs("resnet56", 100))
    places = 8 * 8
    convolutions = 64 * 32 + 32 * 32 * 9 + 32 * 64
    # the teacher's classifier, which is as large, in place of its own head
    assert found["SimKD"] == (
        student + convolutions + 2 * (32 + 32 + 64),
        plain[1] + convolutions * places,
    )
    norm = 2 * 64 * 512
    assert found["NORM"] == (student + norm + 2 * (512 + 64), plain[1] + norm * places)


def test_the_table_shows_them_only_when_asked(suite: Path, tmp_path: Path) -> None:
    arguments = ["table", str(suite), "--results", str(tmp_path)]
    run = CliRunner().invoke
    assert "Size" not in run(app, arguments).output
    shown = run(app, [*arguments, "--size"]).output
    assert "Size resnet56" in shown and "0.28M / " in shown and "0.29M / " in shown
    records = json.loads(run(app, [*arguments, "--size", "--format", "json"]).output)
    rows = {r["row"]: r for r in (records["cells"] if isinstance(records, dict) else records)}
    assert rows["Student"]["parameters"] == 278_324
    assert "parameters" in run(app, [*arguments, "--size", "--format", "csv"]).output
    assert "not laid out as LaTeX" in str(
        run(app, [*arguments, "--size", "--format", "latex"]).exception
    )
