"""Executors by name, without importing those that are not used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wcordbench.errors import UserError
from wcordbench.executors import base
from wcordbench.executors.base import Options
from wcordbench.executors.local import LocalExecutor
from wcordbench.results.provenance import device_of_host

OPTIONS = Options(Path("results"), Path("data"))


def test_an_executor_is_found_by_the_name_of_its_file() -> None:
    assert "local" in base.names() and "base" not in base.names()
    assert isinstance(base.by_name("local", OPTIONS), LocalExecutor)


def test_an_unknown_executor_is_one_sentence() -> None:
    with pytest.raises(UserError, match="unknown executor 'locla'; did you mean 'local'"):
        base.by_name("locla", OPTIONS)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("no", name="left_pad.sub")

    monkeypatch.setattr(base.importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"needs the package left_pad.*'wcordbench\[local\]'"):
        base.by_name("local", OPTIONS)


def test_an_option_of_another_executor_is_refused() -> None:
    with pytest.raises(UserError, match="--ray-address does not belong"):
        base.by_name("local", Options(Path(), Path(), own={"ray-address": "auto"}))


def test_a_device_is_named_as_its_host_numbers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_of_host("cuda:0") == "cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [device_of_host(d) for d in ("cuda:1", "cuda", "cpu")] == ["cuda:5", "cuda:3", "cpu"]


def test_the_local_executor_imports_no_other() -> None:
    script = (
        "import sys; from pathlib import Path; from wcordbench.executors import base;"
        "base.by_name('local', base.Options(Path(), Path()));"
        "print([m for m in ('ray', 'submitit', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
