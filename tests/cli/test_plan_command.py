"""The plan command, on a suite of seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from wcordbench.cli import main, plan

SUITE = """
name: tiny
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 2, batch_size: 512, learning_rate: 0.1, schedule: {type: step, milestones: [1]}}
seeds: [0, 1]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, kd]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)

    def call(*arguments: str) -> tuple[int, str, str]:
        command = ["wcordbench", "plan", str(path), "--results", str(tmp_path / "r"), *arguments]
        monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu"])
        with pytest.raises(SystemExit) as stop:
            main.main()
        return int(stop.value.code or 0), *capfd.readouterr()

    return call


def test_time_and_disk_of_every_row_and_pair(run: Any, tmp_path: Path) -> None:
    code, out, _ = run("--steps", "1", "--workers", "2", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert found["runs"] == {
        "total": 5, "teachers": 1, "missing": 5, "left": 5, "cohorts": 5,
    }  # fmt: skip
    assert found["workers"] == 2 and found["threads"] >= 1 and found["devices"] == ["cpu"]
    assert 0 < found["seconds"] <= found["work"]
    assert set(found["rows"]) == {"Teacher", "Student", "KD"}
    assert found["pairs"]["resnet14->resnet8"]["seconds"] == pytest.approx(found["work"])
    assert found["disk"]["weights"] > 0 < found["disk"]["checkpoints"]
    assert 1e8 < found["calibration"]["memory"] < 1e10
    text = plan.describe(found)
    assert "of a worker at most, its images included" in text
    assert "5 runs; 5 to train, 1 teacher among all" in text and "over 2 workers on cpu" in text
    assert not (tmp_path / "r").exists()  # nothing is written


def test_without_times(run: Any) -> None:
    code, out, _ = run("--steps", "0", "--cohort-size", "1", "--method", "kd", "--seed", "1")
    assert code == 0 and "2 runs; 2 to train" in out and "time: not measured" in out
    assert "memory:" not in out
    assert "of weights" in out and "%" not in out


def test_what_was_measured_orders_a_run(run: Any, tmp_path: Path) -> None:
    from wcordbench.suite import expand, load_suite
    from wcordbench.training.calibrate import Calibration

    path = tmp_path / "costs.json"
    code, _, _ = run("--steps", "1", "--save", str(path))
    measured = Calibration.load(path)
    costs = {c.run.name: measured.cost(c.run) for c in expand(load_suite(tmp_path / "tiny.yaml"))}
    assert code == 0 and len(costs) == 5 and min(c.own for c in costs.values()) > 0
    assert all(cost.shared > 0 for cost in costs.values())


def test_nothing_left(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from wcordbench.results.store import RunFolder

    monkeypatch.setattr(RunFolder, "state", "done")
    code, out, _ = run()
    assert code == 0 and "5 done" in out and "nothing is left to do" in out


def test_an_unknown_format_is_one_sentence(run: Any) -> None:
    code, _, err = run("--format", "xml")
    assert code == 2 and err.count("\n") == 1 and "valid: text, json" in err


@pytest.mark.parametrize(
    ("count", "text"), [(950, "0.9 kB"), (9_960_000, "10 MB"), (4.2e9, "4.2 GB"), (3e12, "3000 GB")]
)
def test_sizes_are_short(count: float, text: str) -> None:
    assert plan._bytes(count) == text
