"""``wcordbench status`` while a suite is done, running, failed and waiting."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.cli.status import duration
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite

SUITE = """
name: small
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 4, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student, kd, at, crd]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SUITE)
    return tmp_path / "small.yaml"


def runs(suite: Path) -> dict[str, Run]:
    # the plain student is the teacher's run: one network, one seed, one protocol
    return {
        "Teacher" if c.method is None else c.method.title: c.run for c in expand(load_suite(suite))
    }


def show(suite: Path, *options: str) -> tuple[int, str]:
    arguments = ["status", str(suite), "--results", str(suite.parent / "r"), *options]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_nothing_is_begun(suite: Path) -> None:
    code, output = show(suite)
    assert code == 0
    assert output.splitlines()[0] == "small: 4 runs: 0 done, 0 running, 0 failed, 4 waiting"
    assert not (suite.parent / "r").exists()


def test_every_state(suite: Path) -> None:
    store, named = Store(suite.parent / "r"), runs(suite)
    done, failed = store.folder(named["Teacher"]), store.folder(named["AT"])
    done.begin(named["Teacher"])
    done.finish(
        {"id": named["Teacher"].id, "config": named["Teacher"].config,
         "scores": {"top1": 50.0}, "seconds": 80.0, "cohort": 2}
    )  # fmt: skip
    failed.begin(named["AT"])
    failed.fail("diverged", "the loss became nan in epoch 1\nand more")
    running = store.folder(named["KD"])
    with running.lease():
        running.begin(named["KD"])
        running.write_metrics([{"epoch": 0, "seconds": 30.0}])
        code, output = show(suite)
        record = json.loads(show(suite, "--format", "json")[1])
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "small: 4 runs: 1 done, 1 running, 1 failed, 1 waiting"
    assert f"epoch 1 of 4 done, by process {os.getpid()} on " in lines[1]
    assert lines[1].endswith("90 s left")
    assert lines[2].endswith("failed, the loss became nan in epoch 1")
    assert lines[-1] == "time left: about 2 min"  # 90 s, and four epochs at 80 / 2 / 4
    assert record["seconds_left"] == 130.0 and record["running"][0]["epoch"] == 1
    assert not (running.path / ".lease.json").exists()
    assert show(suite)[1].splitlines()[0].endswith("2 waiting (1 begun)")


def test_what_waits_costs_what_its_like_did(suite: Path) -> None:
    suite.write_text(SUITE.replace("seeds: [0]", "seeds: [0, 1]"))
    store = Store(suite.parent / "r")
    cells = {(c.method.name, c.seed): c.run for c in expand(load_suite(suite)) if c.method}
    for name, seconds in (("student", 8.0), ("kd", 16.0), ("crd", 400.0)):
        run = cells[name, 0]
        store.folder(run).begin(run)
        store.folder(run).finish(
            {"id": run.id, "config": run.config, "scores": {"top1": 1.0}, "seconds": seconds}
        )
    waiting = {key for key, run in cells.items() if store.folder(run).state == "missing"}
    like, unlike = 8.0 + 16.0 + 400.0, 2 * (8.0 + 16.0 + 400.0) / 3  # AT has not been seen
    assert len(waiting) == 5
    left = json.loads(show(suite, "--format", "json")[1])["seconds_left"]
    assert left == pytest.approx(like + unlike)


def test_the_advised_command_is_whole_and_can_be_typed(suite: Path) -> None:
    """The suite, what was selected and changed, and the results folder; quoted for a shell."""
    store = Store(suite.parent / "r")
    run = runs(suite)["KD"]
    store.folder(run).begin(run)
    store.folder(run).fail("diverged", "x")
    (pair,) = {p.name for p in load_suite(suite).pairs}
    more = ["--pair", pair, "--method", "kd", "--seed", "0", "--set", "title=a b"]
    lines = show(suite, *more)[1].splitlines()
    results = str(suite.parent / "r")
    again = ["wcordbench", "run", str(suite), "--set", "title=a b", "--pair", pair,
             "--method", "kd", "--seed", "0", "--results", results]  # fmt: skip
    advised = [shlex.split(x.partition(" with: ")[2]) for x in lines if " with: " in x]
    assert advised == [[*again, "--retry-failed"], again]


def test_watch_ends_when_nothing_is_left(suite: Path) -> None:
    store = Store(suite.parent / "r")
    for run in dict.fromkeys(runs(suite).values()):
        store.folder(run).begin(run)
        store.folder(run).finish({"id": run.id, "config": run.config, "scores": {"top1": 1.0}})
    code, output = show(suite, "--watch", "0.2")
    assert code == 0 and "small: 4 runs: 4 done" in output and "time left" not in output


def test_durations() -> None:
    said = [duration(s) for s in (0, 99, 130, 5999, 6001, 180_000)]
    assert said == ["0 s", "99 s", "2 min", "1 h 40 min", "1 h 40 min", "2 d 2 h"]


def test_it_needs_no_torch(suite: Path) -> None:
    code = (
        "import sys\nfrom wcordbench.cli.main import main\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, "status", str(suite)], check=True, timeout=60)
