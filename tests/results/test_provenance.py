"""What a result says about the code and the machine that made it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from wcordbench.devices import instructions
from wcordbench.results import provenance
from wcordbench.training.precision import resolve


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a package in it, whose ``results/provenance.py`` is the module."""
    if shutil.which("git") is None:
        pytest.skip("no git")
    package = tmp_path / "wcordbench"
    (package / "results").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "results/provenance.py").write_text("")
    (tmp_path / "notes.txt").write_text("")
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(provenance, "__file__", str(package / "results/provenance.py"))
    return tmp_path


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_commit_and_whether_the_package_was_changed(checkout: Path) -> None:
    git(checkout, "init", "-q")
    git(checkout, "add", "wcordbench")
    git(checkout, "commit", "-q", "-m", "one")
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit() == {"commit": head, "clean": True}  # notes.txt is outside
    (checkout / "wcordbench/results/provenance.py").write_text("changed")
    assert provenance.commit() == {"commit": head, "clean": False}
    git(checkout, "checkout", "-q", ".")
    (checkout / "wcordbench/new.py").write_text("")
    assert provenance.commit() == {"commit": head, "clean": False}


def test_somebody_elses_checkout_is_not_ours(checkout: Path) -> None:
    assert provenance.commit() == {"commit": None, "clean": None}
    git(checkout, "init", "-q")
    git(checkout, "add", "notes.txt")
    git(checkout, "commit", "-q", "-m", "theirs")
    assert provenance.commit() == {"commit": None, "clean": None}


def test_without_git_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == {"commit": None, "clean": None}


def test_the_environment_is_plain_values() -> None:
    found = provenance.environment(torch.device("cpu"))
    assert found["device"] == "cpu" and found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert all(v is None or isinstance(v, str | int | bool) for v in found.values())
    assert found["device_name"]
    assert found["instructions"] == instructions()


#: what a processor can do, what oneDNN is told, and the best kernels that are left to it
INSTRUCTIONS = {
    "all of it": (("amx_bf16", "avx512_bf16", "avx512_f", "avx2"), "", "AVX512_CORE_AMX"),
    "capped": (("amx_bf16", "avx512_bf16", "avx512_f", "avx2"), "avx512_core_bf16",
               "AVX512_CORE_BF16"),
    "capped by another name": (("amx_bf16", "avx512_bf16", "avx512_f", "avx2"), "AVX512_CORE_VNNI",
                               "AVX512_CORE"),
    "capped above it": (("avx2",), "AVX512_CORE", "AVX2"),
    "a cap that oneDNN ignores": (("avx512_f", "avx2"), "no such", "AVX512_CORE"),
    "none of these": ((), "", "DEFAULT"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(INSTRUCTIONS))
def test_the_instruction_sets(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known, cap, expected = INSTRUCTIONS[case]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(known, True))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert instructions().split()[1] == expected


def test_an_older_pytorch_does_not_say_what_the_processor_can_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert instructions() == torch.backends.cpu.get_cpu_capability()
    assert resolve("auto", torch.device("cpu")) == "fp32"


def test_uncommitted_code_is_said_in_the_table(tmp_path: Path) -> None:
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite

    (tmp_path / "s.yaml").write_text(
        "name: s\ndataset: {name: digits, mean: [0.3], std: [0.4]}\n"
        "train: {epochs: 1, batch_size: 64, learning_rate: 0.1, schedule: {type: one_cycle}}\n"
        "seeds: [0, 1]\npairs: [{teacher: resnet14, student: resnet8}]\nmethods: [student]\n"
    )
    suite, store = load_suite(tmp_path / "s.yaml"), Store(tmp_path)
    cells = expand(suite)
    said = []
    for clean in (True, False):
        for cell in cells[1:]:
            store.folder(cell.run).begin(cell.run)
            scores = {"top1": 50.0, "top5": 60.0, "best_top1": 50.0}
            store.folder(cell.run).finish(
                {"id": cell.run.id, "config": cell.run.config, "scores": scores,
                 "environment": {"clean": clean or cell.seed == 0}}
            )  # fmt: skip
        said.append([r for r in build(suite, cells, store, None).remarks if "committed" in r])
    assert said == [
        [],
        ["1 run trained by code with changes that were not committed: no commit gives it again."],
    ]
