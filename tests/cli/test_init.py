"""A shipped suite by its name, and a copy of one to change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wcordbench.cli.main import main
from wcordbench.suite import load_suite
from wcordbench.suite.shipped import shipped


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_shipped_suite_is_found_by_its_name_in_an_empty_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "validate", "digits") == 0
    assert "digits is valid" in capsys.readouterr().out
    assert run(monkeypatch, "validate", "digit") == 2
    assert "suite digit does not exist; did you mean 'digits'?" in capsys.readouterr().err
    assert run(monkeypatch, "list", "suites") == 0
    assert set(shipped()) <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_init_copies_a_suite_that_is_valid_where_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "init", "mine/new", "--suite", name) == 0
    assert load_suite(tmp_path / "mine" / "new" / f"{name}.yaml").name == load_suite(name).name
    assert (tmp_path / "mine" / "new" / "suite.schema.json").is_file()


def test_init_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digits.yaml"
    assert run(monkeypatch, "init", ".", "--suite", "digits") == 0
    assert run(monkeypatch, "init", ".", "--suite", "digits") == 0  # the same file: nothing is lost
    file.write_text("name: mine\n")
    assert run(monkeypatch, "init", ".", "--suite", "digits") == 2
    assert "digits.yaml is there and is another file" in capsys.readouterr().err
    assert file.read_text() == "name: mine\n"
    (tmp_path / "folder" / "digits.yaml").mkdir(parents=True)
    assert run(monkeypatch, "init", "folder", "--suite", "digits") == 2
    assert "digits.yaml is there and is another file" in capsys.readouterr().err
    assert run(monkeypatch, "init", "x", "--suite", "digit") == 2
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").touch()
    assert run(monkeypatch, "init", "file") == 2
    assert "file cannot be written" in capsys.readouterr().err


def test_a_name_that_means_two_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "digits.yaml").write_bytes(shipped()["digits"].read_bytes())
    assert run(monkeypatch, "validate", "digits") == 0  # the same suite either way
    (tmp_path / "digits.yaml").write_text("name: mine\n")
    capsys.readouterr()
    assert run(monkeypatch, "validate", "digits") == 2
    assert "write digits.yaml for yours, or " in capsys.readouterr().err
    (tmp_path / "digits").write_text("name: mine\n")
    assert run(monkeypatch, "validate", "digits") == 2  # a file of that very name is the file
    assert "digits: key 'dataset' is missing" in capsys.readouterr().err
