"""``dataset.holdout`` in a suite: identity, mistakes, and what tables say."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wcordbench.cli.progress import Progress
from wcordbench.errors import UserError
from wcordbench.reporting.compare import not_judged
from wcordbench.reporting.render import render
from wcordbench.reporting.report import score_name
from wcordbench.reporting.table import build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite

Load = Callable[[dict[str, Any]], Suite]
ROOT = Path(__file__).parents[2]


def test_it_is_part_of_the_identity_where_it_is_set(base: dict[str, Any], load: Load) -> None:
    plain = expand(load(base))
    assert all("holdout" not in c.run.config["dataset"] for c in plain)
    base["dataset"]["holdout"] = None
    assert [c.run.id for c in expand(load(base))] == [c.run.id for c in plain]
    base["dataset"]["holdout"] = 100
    held = expand(load(base))
    assert not {c.run.id for c in held} & {c.run.id for c in plain}
    base["dataset"]["holdout"] = 200
    assert not {c.run.id for c in expand(load(base))} & {c.run.id for c in held}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"holdout": 105}, ["dataset.holdout", "is 105", "10 classes", "such as 100"]),
        ({"holdout": 0}, ["dataset.holdout"]),
        ({"holdout": "5000"}, ["dataset.holdout", "whole number"]),
    ],
)
def test_what_does_not_fit_is_refused(
    base: dict[str, Any], load: Load, change: dict[str, Any], parts: list[str]
) -> None:
    base["dataset"].update(change)
    with pytest.raises(UserError) as caught:
        load(base)
    for part in parts:
        assert part in str(caught.value)


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="is 50000, but cifar100 has 50000 training images"):
        load_suite(ROOT / "suites" / "cifar100.yaml", ["dataset.holdout=50000"])


def test_a_tasks_classes_count(base: dict[str, Any], load: Load) -> None:
    base["task"] = {"groups": {"a": [0, 1], "b": [2], "c": [3]}}
    base["dataset"]["holdout"] = 9
    assert load(base).dataset.holdout == 9
    base["dataset"]["holdout"] = 10
    with pytest.raises(UserError, match="3 classes"):
        load(base)


@pytest.mark.parametrize("key", ["checkpoint", "pretrained"])
def test_a_teacher_from_a_file_may_have_seen_them(
    base: dict[str, Any], load: Load, tmp_path: Path, key: str
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"weights")
    base["pairs"][1]["teacher"] = {"model": "wrn_16_2", key: str(tmp_path / "weights.pth")}
    load(base)
    base["dataset"]["holdout"] = 100
    with pytest.raises(UserError, match=rf"pairs\.1\.teacher\.{key}.*dataset\.holdout"):
        load(base)


@pytest.mark.parametrize("key", ["checkpoint", "pretrained"])
def test_a_librarys_weights_may_have_seen_them(base: dict[str, Any], load: Load, key: str) -> None:
    base["pairs"][1]["teacher"] = {"model": "timm:resnet18", key: True}
    load(base)
    base["dataset"]["holdout"] = 100
    with pytest.raises(UserError, match=rf"pairs\.1\.teacher\.{key}.*dataset\.holdout"):
        load(base)


@pytest.mark.parametrize(
    ("name", "more"), [("cifar100", []), ("privileged", ["pairs.0.teacher.pretrained=false"])]
)
def test_never_beside_published_numbers(name: str, more: list[str], tmp_path: Path) -> None:
    """Whatever else is as published."""
    store, file = Store(tmp_path), ROOT / "suites" / f"{name}.yaml"
    held = load_suite(file, ["dataset.holdout=500", *more])
    for suite, beside in ((load_suite(file), True), (held, False)):
        table = build(suite, expand(suite), store, None)
        assert any(e.published for _, row in table.rows for e in row) is beside
        text = render(table, "text")
        assert ("training images held out" in table.metric) is not beside
        assert ("no network here was trained on" in " ".join(text.split())) is not beside
    with pytest.raises(UserError, match=r"--compare published.*held out"):
        build(held, expand(held), store, "published")
    assert not_judged(held) is not None
    assert "test" not in table.metric.lower()


def test_the_best_epoch_of_them_is_not_one_on_test_images(
    base: dict[str, Any], load: Load, tmp_path: Path
) -> None:
    base["dataset"]["holdout"] = 100
    suite = load(base)
    table = build(suite, expand(suite), Store(tmp_path), None, "best")
    assert (
        table.metric == "Top-1 accuracy (%) of 100 training images held out, after the best epoch"
    )
    assert "TEST" not in " ".join(table.remarks)


def test_progress_and_report_do_not_call_them_test_images(
    base: dict[str, Any], load: Load, tmp_path: Path
) -> None:
    for holdout, word in ((None, "test"), (100, "held-out")):
        base["dataset"]["holdout"] = holdout
        suite = load(base)
        run = expand(suite)[0].run
        shown = io.StringIO()
        progress = Progress([run], Store(tmp_path), Console(file=shown, width=200))
        event = {"kind": "epoch", "run": run.name, "epoch": 0, "epochs": 10, "train_loss": 1.0}
        progress({**event, "train_top1": 50.0, "test_top1": 40.0, "seconds": 1.0})
        assert f"{word} 40.00%" in shown.getvalue()
        assert score_name(suite) == f"{word} top-1"
