"""``wcordbench validate`` names every mistake of a file, each in one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from wcordbench.cli.main import main
from wcordbench.suite.mistakes import mistakes

Write = Callable[[dict[str, Any]], Path]


def validate(path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wcordbench", "validate", str(path), *more])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_every_mistake_has_its_sentence(
    base: dict[str, Any],
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wrong values, unknown and missing keys, contradictions, and what only networks tell."""
    base["name"] = "two words"
    base["sedes"] = [0]
    base["train"] |= {"epochs": "ten", "learning_rte": 0.1, "nesterov": 1}
    del base["train"]["learning_rate"], base["train"]["batch_size"]
    base["seeds"] = [0, 1, 1, -2]
    base["pairs"] += [
        {"teacher": "resnet65", "student": "resnet8"},
        {"teacher": "resnet14"},
        {"teacher": "resnet20", "student": "resnet8", "train": {"epoch": 1}},
        {"teacher": {"model": "resnet14"}, "student": "resnet8"},
        {"teacher": {"model": "resnet20", "checkpoint": "gone.pth"}, "student": "resnet14"},
    ]
    base["methods"] += [
        "crdd",
        "kd",
        {"name": "crd", "temperature": 0},
        {"name": "kd", "label": "b", "alpha": 0.5},
        {"name": "wcord", "lamda1": 0.1},
        {"name": "at", "beta": -1},
    ]
    path = write(base)
    assert validate(path, monkeypatch) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    expected = [
        "key 'name' must be made of letters, digits, '_' and '-', not 'two words'",
        "unknown key 'sedes'; did you mean 'seeds'?",
        "key 'train.epochs' must be a whole number, not 'ten'",
        "unknown key 'train.learning_rte'; did you mean 'learning_rate'?",
        "key 'train.nesterov' must be true or false, not 1",
        "key 'train.batch_size' is missing",
        "key 'seeds.3' must be greater than or equal to 0, not -2",
        "key 'seeds.2': 1 is seeds.1 already; remove one",
        "key 'pairs.2.teacher': unknown model 'resnet65'",
        "key 'pairs.3.student' is missing",
        "unknown key 'pairs.4.train.epoch'; did you mean 'epochs'?",
        "key 'pairs.5': 'resnet14->resnet8' is pairs.0 already; give one a label",
        "/gone.pth does not exist",
        "key 'methods.4': unknown method 'crdd'; did you mean 'crd'?",
        "key 'methods.5': 'KD' is methods.1's row already; give one a label",
        "key 'methods.7.alpha' weighs a term added by '+'",
        "key 'methods.8.lamda1': method 'wcord' has no such option; did you mean 'lambda1'?",
        "key 'methods.9.beta' must be greater than or equal to 0, not -1",
    ]
    for sentence in expected:
        assert sum(sentence in line for line in lines) == 1, (sentence, captured.err)
    assert all(line.startswith(f"wcordbench: {path}: ") for line in lines)
    # the missing learning rate is the misspelt one; the temperature is checked with the networks
    assert len(lines) == len(expected) + sum("methods.6" in line for line in lines)


def test_networks_and_methods_are_all_checked(
    base: dict[str, Any],
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Places are the file's although a row and a sweep stand before them."""
    base["methods"] = [
        "crdd",
        {"name": "wcord", "negatives": 64, "lambda1": {"sweep": [0.1, 0.2]}},
        {"name": "crd", "label": "a", "temperature": 0},
    ]
    base["pairs"] = [
        {"teacher": "resnet14", "student": "resnet"},
        {"teacher": "timm:resnet1888", "student": "resnet8"},
        {"teacher": "resnet14", "student": "timm:resnet1999"},
        {"teacher": "resnet14", "student": "resnet8"},
    ]
    assert validate(write(base), monkeypatch) == 2
    text = capsys.readouterr().err
    for key in (
        "methods.0'",
        "methods.2",
        "pairs.0.student'",
        "pairs.1.teacher'",
        "pairs.2.student'",
    ):
        assert text.count(f"key '{key}") == 1, text
    assert len(text.splitlines()) == 5


def test_mistakes_of_the_command_line_are_named_with_the_file(
    base: dict[str, Any],
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = ["--set", "train.epochs=0", "--set", "train.batch_size=0"]
    assert validate(write(base), monkeypatch, *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("with --set train." in line for line in lines)


@pytest.mark.parametrize("key", ["dataset", "train", "seeds", "pairs", "methods"])
@pytest.mark.parametrize("value", [None, [], {}, 3, "x", [[]], [None], {"x": {}}])
def test_it_ends_whatever_stands_there(
    key: str, value: Any, base: dict[str, Any], tmp_path: Path
) -> None:
    base[key] = value
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(base))
    _, found = mistakes(path)
    assert found and all("suite.yaml: " in sentence for sentence in found)


@pytest.mark.parametrize(
    ("methods", "said"),
    [(["student"], "1 run to train, 0 of them"), (["student", "kd"], "3 runs to train, 1 of them")],
)
def test_the_runs_are_those_that_are_trained(
    methods: list[str],
    said: str,
    base: dict[str, Any],
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A teacher that nothing learns from is not trained by ``run``, and not counted here."""
    base |= {"methods": methods, "seeds": [0], "pairs": base["pairs"][:1]}
    assert validate(write(base), monkeypatch) == 0
    assert said in capsys.readouterr().out
