"""Commands that only print: no traceback on any encoding, disk, pipe or stray file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wcordbench.results.store import Store
from wcordbench.results.verify import verify
from wcordbench.suite import expand, load_suite

ROOT = Path(__file__).parents[2]
CPU, RESULTS = ROOT / "suites" / "cifar100_cpu.yaml", ROOT / "results"
SUITE = """
name: odd
title: Größe × τ – 中文
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 1, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, {name: kd, label: "λ – 🎉 – é"}]
"""


def run(
    *arguments: str | Path, cwd: Path = ROOT, encoding: str = "", **how: object
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"PYTHONIOENCODING": encoding} if encoding else {}
    how.setdefault("stdout", subprocess.PIPE)
    command = [sys.executable, "-m", "wcordbench", *map(str, arguments)]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, cwd=cwd, env=environment, stderr=subprocess.PIPE, timeout=120, **how
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    (tmp_path / "odd.yaml").write_text(SUITE, encoding="utf-8")
    (tmp_path / "results" / "runs").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp437", "koi8-r", "shift_jis"])
def test_any_encoding_takes_a_table_and_a_comparison(odd: Path, encoding: str) -> None:
    for command in (("table", "odd.yaml"), ("compare", CPU, "--results", RESULTS)):
        done = run(*command, cwd=odd, encoding=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
    text = run("table", "odd.yaml", cwd=odd, encoding="latin-1").stdout.decode("latin-1")
    assert "Größe × tau - \\u4e2d\\u6587" in text


def test_json_is_the_same_in_every_encoding(odd: Path) -> None:
    read = json.loads(run("table", "odd.yaml", "--format", "json", cwd=odd).stdout)
    other = run("table", "odd.yaml", "--format", "json", cwd=odd, encoding="latin-1").stdout
    assert json.loads(other.decode("latin-1")) == read
    assert read["cells"][-1]["row"] == "λ – 🎉 – é"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["--help"], ["list", "methods"], ["table", str(CPU)]])
def test_a_full_disk_is_one_sentence(command: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(*command, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(
        "wcordbench: what is printed cannot be written (No space"
    )
    assert done.stderr.count(b"\n") == 1
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(
            [sys.executable, "-m", "wcordbench", "table", "no.yaml"], cwd=ROOT, stderr=full
        ).returncode == 2  # fmt: skip


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = run("table", CPU, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_version_and_module() -> None:
    assert run("--version").stdout.startswith(b"wcordbench ")
    assert run("--help").stdout.startswith(b"Usage: python -m wcordbench")


def test_one_broken_suite_hides_no_other(tmp_path: Path) -> None:
    suites = tmp_path / "suites"
    suites.mkdir()
    (suites / "z.yml").write_text(CPU.read_text("utf-8"), encoding="utf-8")
    (suites / "a.yaml").write_text("name: draft\n", encoding="utf-8")
    (suites / "b.yaml").write_bytes(b"\xff\xfe\x00")
    (suites / "._z.yml").write_bytes(b"\x00\x05\x16\x07")
    (suites / "c.yaml").mkdir()
    done = run("table", "--results", RESULTS, cwd=tmp_path)
    assert done.returncode == 0
    assert "WCoRD (dual)" in done.stdout.decode()
    left_out = [line.split()[3:5] for line in done.stderr.decode().splitlines()]
    assert left_out == [["suites/a.yaml:", "key"], ["suite", "suites/b.yaml"],
                        ["suite", "suites/c.yaml"]]  # fmt: skip
    (suites / "z.yml").unlink()
    done = run("table", "--results", RESULTS, cwd=tmp_path)
    assert done.returncode == 2 and b"mend what is named above" in done.stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_suite_and_a_plugin_may_begin_with_a_byte_order_mark(
    tmp_path: Path, encoding: str
) -> None:
    plugin = (
        "from wcordbench.registry import register_dataset\n\n\n"
        '@register_dataset("mine", title="Mine", classes=2, size=8, channels=1)\n'
        'def mine(root):\n    """Nothing."""\n'
    )
    plain = "utf-8" if encoding == "utf-16" else encoding
    (tmp_path / "mine.py").write_text(plugin, encoding=plain)
    text = SUITE.replace("name: digits", "name: mine") + "plugins: [mine.py]\n"
    (tmp_path / "s.yml").write_text(text, encoding=encoding)
    suite = load_suite(tmp_path / "s.yml")
    assert suite.title == "Größe × τ – 中文"
    assert expand(suite)


def test_files_of_operating_systems_are_not_results(tmp_path: Path) -> None:
    folder = min((RESULTS / "runs").iterdir())
    shutil.copytree(folder, tmp_path / "runs" / folder.name)
    before = verify(Store(tmp_path))
    places = (tmp_path, tmp_path / "runs", tmp_path / "runs" / folder.name)
    for place in places:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._result.json", ".nfs00000001"):
            (place / name).write_bytes(b"\x00")
        for name in ("__MACOSX", "lost+found", "@eaDir", ".ipynb_checkpoints"):
            (place / name).mkdir()
    assert verify(Store(tmp_path)) == before
    assert len(Store(tmp_path).folders()) == 1
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    assert [f.path.name for f in verify(Store(tmp_path))[1]] == ["notes.txt"]
