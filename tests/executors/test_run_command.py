"""``wcordbench run`` as a process: stopped, continued, twice at once, with a run that fails."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from wcordbench import models
from wcordbench.cli.main import app
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.plan import Cost
from wcordbench.training.calibrate import Calibration
from wcordbench.training.cohort import Cohort

SUITE = """
name: tiny
dataset:
  name: imagefolder
  options: {folder: dots, image_size: 8, grayscale: true}
  mean: [0.5]
  std: [0.25]
train:
  epochs: EPOCHS
  batch_size: 16
  learning_rate: 0.01
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
seeds: [0]
pairs:
  - teacher: {model: resnet8, checkpoint: CHECKPOINT, allow_chance: true}
    student: resnet8
methods: METHODS
"""


class Place:
    """A suite, its data, and the command on them."""

    def __init__(self, folder: Path, methods: str, epochs: int) -> None:
        self.folder, self.results = folder, folder / "results"
        rng = np.random.default_rng(0)
        for split, count in (("train", 32), ("test", 16)):
            for label in range(2):
                (folder / "data/dots" / split / str(label)).mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(0, 128, (8, 8)) + 127 * label
                    file = folder / "data/dots" / split / str(label) / f"{i}.png"
                    Image.fromarray(pixels.astype(np.uint8)).save(file)
        torch.manual_seed(0)
        torch.save({"model": models.create("resnet8", 2, 8, 1).state_dict()}, folder / "t.pth")
        text = SUITE.replace("METHODS", methods).replace("EPOCHS", str(epochs))
        self.suite = folder / "tiny.yaml"
        self.suite.write_text(text.replace("CHECKPOINT", str(folder / "t.pth")))
        self.store = Store(self.results)
        self.runs: dict[str, Run] = {
            c.method.title: c.run for c in expand(load_suite(self.suite)) if c.method is not None
        }
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "wcordbench.cli.main", "run", str(self.suite)]
        command += ["--results", str(self.results), "--data", str(self.folder / "data")]
        command += ["--device", "cpu", "--workers", "1", "--threads", "1"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def states(self) -> dict[str, str]:
        return {title: self.store.folder(run).state for title, run in self.runs.items()}

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def place(tmp_path: Path, request: Any) -> Any:
    made = Place(tmp_path, *request.param)
    yield made
    made.close()


@pytest.mark.parametrize("place", [("[student, kd, at]", 12)], indirect=True)
def test_stopped_and_continued(place: Place) -> None:
    """Ctrl-C in training: exit 130; again: what was done stays; a third time: nothing to do."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    Cohort([place.runs["Student"]], place.store, place.folder / "data", device).train()
    result = place.store.folder(place.runs["Student"]).path / "result.json"
    written = result.stat().st_mtime_ns

    first = place.start()
    assert first.stdout is not None
    lines = []
    for line in first.stdout:
        lines.append(line)
        if "".join(lines).count("epoch 1/12") == 2:
            break
    first.send_signal(signal.SIGINT)
    lines += first.stdout.readlines()
    assert first.wait(120) == 130, lines
    assert lines[0].startswith("3 runs: 1 done, 0 failed, 2 to train")
    assert "run the same command again to continue" in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert place.states() == {"Student": "done", "KD": "begun", "AT": "begun"}
    for title in ("KD", "AT"):
        folder = place.store.folder(place.runs[title])
        assert (folder.path / "checkpoint.pt").is_file() and not folder.held()

    second = place.start()
    output, _ = second.communicate(timeout=600)
    assert second.returncode == 0, output
    assert output.count("resumed in epoch") == 2 and "epoch 1/12" not in output
    assert output.splitlines()[-1].endswith("all 3 runs done")
    assert set(place.states().values()) == {"done"}
    assert result.stat().st_mtime_ns == written

    third = place.start()
    output, _ = third.communicate(timeout=600)
    assert third.returncode == 0
    assert output.startswith("3 runs: 3 done, 0 failed, 0 to train")
    assert "training" not in output and result.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "place",
    [("[student, kd, {name: student, label: bad, train: {learning_rate: 1.0e+30}}]", 3)],
    indirect=True,
)
def test_two_at_once_and_one_run_that_fails(place: Place) -> None:
    """Every run is trained by one of the two; both wait for all and list what failed."""
    processes = [place.start(), place.start()]
    outputs = [p.communicate(timeout=600)[0] for p in processes]
    together = "".join(outputs)
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 1, output
        assert "Traceback" not in output
        bad = place.runs["bad"].name
        assert re.search(rf"failed: {bad}: the loss .*became (nan|inf) in epoch 1\n", output)
        assert "--retry-failed" in output.splitlines()[-1]
        for title in ("Student", "KD"):
            assert f"{place.runs[title].name}: done, " in output
    assert place.states() == {"Student": "done", "KD": "done", "bad": "failed"}
    for title in ("Student", "KD"):
        for epoch in (1, 2, 3):
            assert together.count(f"{place.runs[title].name}: epoch {epoch}/3") == 1, together


# --- without a worker -------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path: Path) -> str:
    suite = tmp_path / "digits.yaml"
    suite.write_text(
        "name: d\ndataset: {name: digits, mean: [0.3], std: [0.4]}\n"
        "train: {epochs: 1, batch_size: 64, learning_rate: 0.1, schedule: {type: one_cycle}}\n"
        "seeds: [0]\npairs: [{teacher: resnet14, student: resnet8}]\nmethods: [student]\n"
    )
    return str(suite)


def test_a_place_for_results_that_cannot_be_written(digits: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below", Path("/proc/results")):
        done = CliRunner().invoke(app, ["run", digits, "--results", str(place)])
        assert isinstance(done.exception, Exception) and "--results" in str(done.exception)
        assert str(place) in str(done.exception)


def test_an_early_interrupt_is_130(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wcordbench.suite.load_suite", stop)
    done = CliRunner().invoke(app, ["run", digits, "--results", str(tmp_path)])
    assert done.exit_code == 130 and "again to continue" in done.output


def test_failed_runs_are_listed_and_retried_when_asked(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next(c.run for c in expand(load_suite(digits)) if c.method is not None)
    teacher = next(c.run for c in expand(load_suite(digits)) if c.method is None)
    store = Store(tmp_path / "r")
    store.folder(run).begin(run)
    store.folder(run).fail("diverged", "the loss became nan in epoch 1")
    store.folder(teacher).begin(teacher)
    store.folder(teacher).finish(
        {"id": teacher.id, "config": teacher.config, "scores": {"top1": 50.0}}
    )
    started: list[str] = []

    def execute(self: Any, jobs: Any, report: Any) -> None:
        started.extend(r.name for job in jobs for r in job.runs)

    monkeypatch.setattr("wcordbench.executors.local.LocalExecutor.run", execute)
    arguments = ["run", digits, "--results", str(tmp_path / "r")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and started == []
    assert f"failed: {run.name}: the loss became nan" in done.output
    CliRunner().invoke(app, [*arguments, "--retry-failed"])
    assert started == [run.name] and store.folder(run).state == "begun"


def test_jobs_are_ordered_by_what_was_measured(
    digits: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Cost] = []

    def execute(self: Any, jobs: Any, report: Any) -> None:
        seen.extend(cost for job in jobs for cost in job.costs)

    monkeypatch.setattr("wcordbench.executors.local.LocalExecutor.run", execute)
    monkeypatch.setattr(Calibration, "load", lambda _: Calibration({}, {}, True, 0, 0.0))
    monkeypatch.setattr(Calibration, "cost", lambda *_: Cost(3.0, 1.0))
    arguments = ["run", digits, "--results", str(tmp_path / "r")]
    CliRunner().invoke(app, [*arguments, "--costs", "costs.json"])
    assert seen == [Cost(3.0, 1.0)]
    CliRunner().invoke(app, arguments)
    assert len(seen) == 2 and seen[1] != seen[0]
