"""What does not exist for its pair is recorded before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.executors.local import LocalExecutor

SUITE = """\
name: pair
dataset: {name: digits, mean: [0.3], std: [0.2]}
train: {epochs: 1, batch_size: 64, learning_rate: 0.1, schedule: {type: one_cycle}}
seeds: [0, 1]
pairs: [{teacher: wrn_16_2, student: resnet8}]
methods: [student, fsp, fsp+kd]
"""


def test_undefined_methods_are_known_to_the_table_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = []
    monkeypatch.setattr(LocalExecutor, "run", lambda *args: jobs.extend(args[1]))
    (tmp_path / "pair.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    runner.invoke(app, ["run", "pair.yaml"])
    trained = {run.config["method"]["name"] for job in jobs for run in job.runs}
    assert trained == {"student"}
    table = runner.invoke(app, ["table", "pair.yaml"]).output
    lines = {line.split("  ")[0]: line for line in table.splitlines()}
    assert "N/A [1]" in lines["FSP"]
    assert "N/A [1]" in lines["FSP+KD"]
    assert "[1] N/A: the channels of stem and stages must agree" in table
