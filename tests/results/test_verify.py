"""``wcordbench verify`` names what does not belong; ``rerun`` gives the same bits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort

SUITE = """
name: tiny
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student, kd]
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A folder with the suite and its results, and the run with a teacher."""
    root = tmp_path_factory.mktemp("verify")
    (root / "tiny.yaml").write_text(SUITE)
    runs = list(dict.fromkeys(c.run for c in expand(load_suite(root / "tiny.yaml"))))
    torch.set_num_threads(1)
    for run in runs:
        Cohort([run], Store(root / "results"), root, torch.device("cpu")).train()
    return root, next(r for r in runs if r.teacher is not None)


@pytest.fixture
def copy(trained: tuple[Path, Run], tmp_path: Path) -> tuple[Store, Run]:
    shutil.copytree(trained[0] / "results", tmp_path / "results")
    return Store(tmp_path / "results"), trained[1]


def edit(path: Path, key: str, value: Any) -> None:
    record = json.loads(path.read_text())
    record[key] = value
    path.write_text(json.dumps(record))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


#: what is done to a finished run's folder, the file that is named, and the reason
DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "weights": (lambda p: flip(p / "student.pt"), "student.pt", "SHA-256"),
    "metrics": (lambda p: flip(p / "metrics.json"), "result.json", "metrics.json"),
    "no metrics": (lambda p: (p / "metrics.json").unlink(), "metrics.json", "missing"),
    "score": (
        lambda p: edit(p / "result.json", "scores", {"top1": 99.0}), "result.json", "top1",
    ),
    "teacher": (
        lambda p: edit(p / "result.json", "teacher_sha256", "0" * 64), "result.json", "taught by",
    ),
    "identity": (lambda p: edit(p / "run.json", "id", "0" * 16), "run.json", "identity"),
    "no configuration": (lambda p: (p / "run.json").unlink(), "run.json", "missing"),
    "half": (lambda p: (p / "result.json").write_text("{"), "result.json", "damaged"),
    "newer": (lambda p: edit(p / "result.json", "format", 99), "result.json", "newer"),
    "stranger": (lambda p: (p / "notes.txt").write_text("x"), "notes.txt", "not a file of a run"),
    "leftover": (lambda p: (p / ".x.tmp-1").write_text("x"), ".x.tmp-1", "half-written"),
    "checkpoint": (
        lambda p: (p / "checkpoint.pt").write_bytes(b"00\nx"), "checkpoint.pt", "SHA-256",
    ),
    "link": (
        lambda p: ((p / "metrics.json").rename(p.parent.parent / "m"),
                   (p / "metrics.json").symlink_to(p.parent.parent / "m")),
        "metrics.json", "link",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(copy: tuple[Store, Run], damage: str) -> None:
    store, run = copy
    assert verify(store) == (2, [])
    inflict, name, reason = DAMAGE[damage]
    inflict(store.folder(run).path)
    named = {f.path.name: f.reason for f in verify(store)[1]}
    assert reason in named[name], named


def test_runs_of_other_images_are_named(copy: tuple[Store, Run]) -> None:
    store, run = copy
    again = store.root / "runs" / "again"
    for seed in (1, 2):  # two more of the images that most have
        config = {**run.config, "seed": seed}
        shutil.copytree(store.folder(run).path, again)
        edit(again / "result.json", "config", config)
        edit(again / "result.json", "id", Run(config).id)
        edit(again / "run.json", "config", config)
        edit(again / "run.json", "id", Run(config).id)
        again.rename(store.folder(Run(config)).path)
    assert verify(store) == (4, [])
    edit(store.folder(run).path / "result.json", "dataset_fingerprint", "0" * 16)
    for only in (None, [run]):
        (finding,) = verify(store, only)[1]
        assert finding.path == store.folder(run).path / "result.json"
        assert "other images than most runs" in finding.reason


def test_a_run_that_is_a_link_is_named(copy: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = copy
    folder = store.folder(run).path
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert folder in [f.path for f in verify(store)[1]]


def test_the_command_says_what_it_found(trained: tuple[Path, Run], copy: tuple[Store, Run]) -> None:
    store, _ = copy
    runner, suite = CliRunner(), str(trained[0] / "tiny.yaml")
    for arguments in ([], [suite]):
        done = runner.invoke(app, ["verify", *arguments, "--results", str(store.root)])
        assert done.exit_code == 0, done.output
        assert done.output.startswith("2 runs in ") and "every identity" in done.output
    (store.root / "runs" / "foreign").mkdir()
    (store.root / "stray.txt").write_text("")
    done = runner.invoke(app, ["verify", "--results", str(store.root)])
    assert done.exit_code == 1
    assert "stray.txt: is not of a run store" in done.output
    assert "foreign/run.json: is missing" in done.output
    assert runner.invoke(app, ["verify", suite, "--results", str(store.root)]).exit_code == 0
    gone = runner.invoke(app, ["verify", "--results", str(store.root / "gone")])
    assert isinstance(gone.exception, UserError) and "does not exist" in str(gone.exception)
    (store.root.parent / "empty").mkdir()
    for arguments in ([], [suite]):
        nothing = ["verify", *arguments, "--results", str(store.root.parent / "empty")]
        done = runner.invoke(app, nothing)
        assert isinstance(done.exception, UserError) and "holds no run" in str(done.exception)


def test_verify_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['wcordbench', 'verify']\n"
        "from wcordbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr  # the committed results are whole


def test_rerun_gives_the_same_bits(copy: tuple[Store, Run]) -> None:
    store, run = copy
    arguments = ["rerun", run.name, "--results", str(store.root)]
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"{run.name}: the same bits, weights and metrics\n")
    assert {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()} == before


def test_rerun_says_what_differs(copy: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = copy
    folder = store.folder(run).path
    edit(folder / "result.json", "weights_sha256", "0" * 64)
    edit(folder / "result.json", "environment", {"threads": 1, "torch": "1.0"})
    done = CliRunner().invoke(app, ["rerun", run.id[:8], "--results", str(store.root)])
    assert done.exit_code == 1
    assert "torch: 1.0 then" in done.output and "the weights differ" in done.output


@pytest.mark.parametrize("case", ["unknown", "ambiguous", "no weights", "scratch", "unfinished"])
def test_rerun_refuses(copy: tuple[Store, Run], case: str, tmp_path: Path) -> None:
    store, run = copy
    assert run.teacher is not None
    name, options, reason = run.name, [], ""
    if case == "unknown":
        name, reason = "nothing", "there is no such run"
    if case == "ambiguous":
        name, reason = "digits", "2 runs are called like that"
    if case == "no weights":
        (store.folder(run.teacher).path / "student.pt").unlink()
        reason = "the teacher's weights, is missing"
    if case == "scratch":
        (tmp_path / "s").mkdir()
        (tmp_path / "s" / "file").write_text("")
        options, reason = ["--scratch", str(tmp_path / "s")], "is not empty"
    if case == "unfinished":
        (store.folder(run).path / "result.json").unlink()
        reason = "has no result.json"
    done = CliRunner().invoke(app, ["rerun", name, "--results", str(store.root), *options])
    assert isinstance(done.exception, UserError) and reason in str(done.exception)
