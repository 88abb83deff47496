"""What a result says about the code and the machine that made it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from wcordbench.results import provenance


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
