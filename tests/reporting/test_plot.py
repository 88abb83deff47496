"""Pictures: every kind draws, the same results give the same file, gaps are said."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.errors import UserError

ROOT = Path(__file__).parents[2]


def draw(out: Path, *options: str) -> None:
    arguments = ["plot", str(ROOT / "suites" / "cifar100_cpu.yaml"), "--out", str(out), *options]
    done = CliRunner().invoke(app, [*arguments, "--results", str(ROOT / "results")])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception


@pytest.mark.parametrize("kind", ["table", "curves"])
def test_the_same_results_give_the_same_file(kind: str, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name, "--kind", kind)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "WCoRD (dual)" in text and "resnet56 → resnet20" in text


def test_the_documented_pictures_are_those_of_the_committed_results(tmp_path: Path) -> None:
    for kind, name in (("table", "cifar100_cpu.svg"), ("curves", "cifar100_cpu_curves.svg")):
        draw(tmp_path / name, "--kind", kind)
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_other_formats(form: str, tmp_path: Path) -> None:
    draw(tmp_path / f"x.{form}", "--kind", "curves")
    assert (tmp_path / f"x.{form}").stat().st_size > 5000


def test_nothing_to_draw(tmp_path: Path) -> None:
    suite = str(ROOT / "suites" / "digits.yaml")
    for kind, reason in (("table", "nothing is finished"), ("curves", "no epoch is over")):
        out = ["--out", str(tmp_path / "x.svg"), "--kind", kind, "--results", str(tmp_path)]
        done = CliRunner().invoke(app, ["plot", suite, *out])
        assert isinstance(done.exception, UserError) and reason in str(done.exception)
    with pytest.raises(UserError, match="--kind 'curve' is unknown; did you mean 'curves'"):
        draw(tmp_path / "x.svg", "--kind", "curve")
