"""A teacher that is given as a file is measured once, and must be better than chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.errors import UserError
from wcordbench.reporting.compare import judged
from wcordbench.reporting.table import build
from wcordbench.results import load, teachers
from wcordbench.results.store import Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training import teacher

Train = Callable[..., list[dict[str, Any]]]

SUITE = """
name: given
dataset: {name: digits, mean: [0.5], std: [0.25]}
train: {epochs: 1, batch_size: 32, learning_rate: 0.05, schedule: {type: one_cycle},
        augment: {crop_padding: 1, flip: true}}
seeds: [0, 1]
pairs: [{teacher: {model: resnet14, checkpoint: t.pth}, student: resnet8}]
methods: [student, kd]
"""


class Given:
    """A suite whose teacher is a file, and its runs."""

    def __init__(self, folder: Path, store: Store, taught: Run, scale: float) -> None:
        self.file, self.suite = folder / "t.pth", folder / "given.yaml"
        self.taught = store.folder(taught)
        state = torch.load(self.taught.path / "student.pt", weights_only=True)["model"]
        torch.save({"model": {k: v * scale for k, v in state.items()}}, self.file)
        self.suite.write_text(SUITE)

    def kd(self, *more: str) -> list[Run]:
        cells = expand(load_suite(self.suite, more))
        return [c.run for c in cells if c.method is not None and c.method.name == "kd"]


@pytest.fixture
def good(tmp_path: Path, store: Store, runs: dict[str, Run], monkeypatch: Any) -> Given:
    """The trained teacher, taken to be better than chance, which one epoch may not suffice for."""
    monkeypatch.setattr(teacher, "chance", lambda *_: 0.5)
    return Given(tmp_path, store, runs["teacher"], 1.0)


@pytest.fixture
def garbage(tmp_path: Path, store: Store, runs: dict[str, Run]) -> Given:
    return Given(tmp_path, store, runs["teacher"], 0.0)


def notes(events: list[dict[str, Any]]) -> list[str]:
    return [e["line"] for e in events if e["kind"] == "note" and e["line"].startswith("teacher ")]


def test_it_is_evaluated_once_before_it_teaches(
    good: Given, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = good.kd()
    events = train(first)
    top1 = good.taught.result()["scores"]["top1"]
    assert notes(events) == [
        f"teacher {good.file} (resnet14): {top1:.2f}% top-1 accuracy on the test images"
    ]
    order = [e["kind"] for e in events]
    assert order.index("note") < order.index("loaded")
    monkeypatch.setattr(teacher, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
    assert notes(train(second)) == []
    for run in (first, second):
        assert store.folder(run).result()["teacher_scores"]["top1"] == top1
    assert verify(store)[1] == []


def test_its_number_is_where_tables_and_exports_find_it(
    good: Given, store: Store, train: Train
) -> None:
    suite = load_suite(good.suite)
    cells = expand(suite)

    def shown() -> float | None:
        table = build(suite, cells, store, None)
        row = dict(judged(table).rows)["Teacher"]
        return row[0].summary.mean if row[0].summary is not None else None

    assert shown() is None
    train(good.kd()[0])
    top1 = good.taught.result()["scores"]["top1"]
    assert shown() == top1
    frame = load(store)
    assert frame["teacher_scores.top1"].dropna().tolist() == [top1]
    teachers.place(store, good.kd()[0].config).unlink()  # results that were merged, for example
    assert shown() == top1
    report = CliRunner().invoke(
        app, ["report", str(good.suite), "--results", str(store.root), "--out",
              str(good.suite.parent / "report.html")],
    )  # fmt: skip
    assert report.exit_code == 0, report.output
    page = (good.suite.parent / "report.html").read_text()
    assert "teacher top1" in page and f"{top1:.2f}" in page


def test_one_that_guesses_is_refused_and_its_number_kept(
    garbage: Given, store: Store, train: Train
) -> None:
    (run, _) = garbage.kd()
    for _ in range(2):
        with pytest.raises(UserError) as raised:
            train(run)
        assert "top-1 accuracy on the test images, and guessing reaches" in str(raised.value)
        assert "allow_chance: true" in str(raised.value)
    assert store.folder(run).state == "begun"
    suite = load_suite(garbage.suite)
    (entry,) = dict(build(suite, expand(suite), store, None).rows)["Teacher"]
    assert entry.summary is not None and 0 <= entry.summary.values[0] < 30


def test_one_that_guesses_teaches_where_that_is_meant(
    garbage: Given, store: Store, train: Train
) -> None:
    (run, _) = garbage.kd("pairs.0.teacher.allow_chance=true")
    assert run == garbage.kd()[0]
    train(run)
    assert store.folder(run).state == "done"


def test_other_images_are_another_measurement(
    good: Given, store: Store, train: Train, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = good.kd()
    train(first)
    record = teachers.read(store, first.config)
    assert record is not None
    path = teachers.place(store, first.config)
    path.write_text(json.dumps({**record, "dataset_fingerprint": "0" * 16}))
    assert notes(train(second))
    again = teachers.read(store, first.config)
    assert again is not None and again["dataset_fingerprint"] == record["dataset_fingerprint"]


def test_a_record_that_was_changed_is_not_taken(
    good: Given, store: Store, train: Train, tmp_path: Path
) -> None:
    (run, _) = good.kd()
    train(run)
    path = teachers.place(store, run.config)
    record = json.loads(path.read_text())
    for text in ("{", "[]", json.dumps({**record, "id": "0" * 16}),
                 json.dumps({**record, "scores": {"top1": 140.0}})):  # fmt: skip
        path.write_text(text)
        assert teachers.read(store, run.config) is None
    path.write_text("{")
    assert [f.path for f in verify(store)[1]] == [path]


def test_views_and_versions_are_part_of_what_is_measured(good: Given) -> None:
    config = good.kd()[0].config
    seen = {**config, "teacher": {**config["teacher"], "view": {"size": 4}}}
    newer = {**config, "versions": {"model resnet14": 2}}
    other = {**config, "versions": {"method kd": 2}, "seed": 9}
    of = [json.dumps(teachers.identity(c), sort_keys=True) for c in (config, seen, newer, other)]
    assert len(set(of)) == 3 and of[0] == of[3]


@pytest.mark.parametrize(
    ("counts", "metric", "at_least", "at_most"),
    [
        ([1000] * 10, "top1", 10.5, 10.7),
        ([100] * 100, "top1", 1.1, 1.3),
        ([900, 100], "top1", 91.0, 93.0),
        ([2, 2], "top1", 70.0, 80.0),  # a perfect score on four images is no guess
        ([500, 500], "auc", 53.0, 54.0),
        ([1, 1], "auc", 70.0, 75.0),
    ],
)
def test_what_guessing_reaches(
    counts: list[int], metric: str, at_least: float, at_most: float
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert at_least < teacher.chance(labels, len(counts), metric) <= at_most


def test_the_key_is_for_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE.replace("checkpoint: t.pth", "allow_chance: true"))
    with pytest.raises(UserError, match=r"allow_chance' is for a teacher that is given as a"):
        load_suite(tmp_path / "s.yaml")
