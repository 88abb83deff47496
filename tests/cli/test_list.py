"""``wcordbench list``."""

from __future__ import annotations

import sys

import pytest

from wcordbench import registry
from wcordbench.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["wcordbench", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_methods(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(monkeypatch, "list", "methods")
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line[:1].isalpha()}
    assert set(registry.catalogue("method")) <= set(lines)
    assert "Tian et al., ICLR 2020" in lines["crd"]
    assert " no " in lines["crd"]
    assert " yes " in lines["ab"]
    # by hand: nothing; two maps of 64 features to 128 with bias; FitNet's 1x1 convolution of 32
    # channels and its batch norm; CRD's banks are not parameters
    for name, parameters in (
        ("kd", "0"), ("ab", "0"), ("cc", "16,640"), ("crd", "16,640"), ("fitnet", "1,088"),
    ):  # fmt: skip
        assert f" {parameters}  " in lines[name], lines[name]
    assert "negatives=16384" in shown
    assert "epsilon=1e-07" in lines["pkt"]


def test_datasets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not run(monkeypatch, "list", "datasets")
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["cifar100"] == ["cifar100", "CIFAR-100", "100", "32"]
    assert lines["imagefolder"][-3:] == ["folder", "(required),", "image_size=32,"]


def test_models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    few = {name: registry.get("model", name) for name in ("resnet8", "resnet20")}
    monkeypatch.setattr(registry, "catalogue", lambda kind: few if kind == "model" else {})
    assert not run(monkeypatch, "list", "models")
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    # 0.08 M and 0.28 M parameters are CRD's; by hand, resnet20's 3x3 convolutions alone have
    # 32² · 9 · (3·16 + 6·16²) + 16² · 9 · (16·32 + 5·32²) + 8² · 9 · (32·64 + 5·64²) MACs
    assert lines["resnet8"] == ["resnet8", "83,892", "12,507,392"]
    assert lines["resnet20"] == ["resnet20", "278,324", "40,818,944"]
    convolutions = 9 * (
        32**2 * (3 * 16 + 6 * 16**2) + 16**2 * (16 * 32 + 5 * 32**2) + 8**2 * (32 * 64 + 5 * 64**2)
    )
    shortcuts, classifier = 16**2 * 16 * 32 + 8**2 * 32 * 64, 64 * 100
    assert convolutions + shortcuts + classifier == 40_818_944


def test_anything_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "list", "model") == 2
    assert capsys.readouterr().err == "wcordbench: cannot list 'model'; did you mean 'models'?\n"
    assert run(monkeypatch, "list", "zebras") == 2
    assert capsys.readouterr().err.endswith("; valid: methods, models, datasets, suites\n")
