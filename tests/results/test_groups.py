"""The order of ``task.groups`` numbers the classes: a run of another order is not the suite's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.data import index
from wcordbench.errors import UserError
from wcordbench.results.groups import find_order
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.training.cohort import Cohort
from wcordbench.training.deploy import load_student

SUITE = """
name: parity
dataset: {{name: digits, mean: [0.3058], std: [0.3764]}}
task: {{groups: {groups}}}
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {{type: one_cycle}}
seeds: [0]
pairs: [{{teacher: resnet8, student: resnet8}}]
methods: [student]
"""
ODD, EVEN = "odd: ['1', '3', '5', '7', '9']", "even: ['0', '2', '4', '6', '8']"
#: as each one is written in a record, whose keys are sorted
ORDERS = {"odd": ("odd, even", f"{{{ODD}, {EVEN}}}"), "even": ("even, odd", f"{{{EVEN}, {ODD}}}")}


def suite(folder: Path, first: str) -> tuple[Path, Run]:
    file = folder / f"{first}.yaml"
    file.write_text(SUITE.format(groups=ORDERS[first][1]))
    return file, next(c.run for c in expand(load_suite(file)) if c.method)


@pytest.fixture(params=["odd", "even"])
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, Store]:
    """The order that a run was trained with, the other one, and where it is."""
    first = str(request.param)
    store = Store(tmp_path / "results")
    Cohort([suite(tmp_path, first)[1]], store, tmp_path, torch.device("cpu")).train()
    return first, "even" if first == "odd" else "odd", store


def said(arguments: list[str], tmp_path: Path, store: Store) -> str:
    place = ["--results", str(store.root)]
    if arguments[0] == "run":
        place += ["--data", str(tmp_path), "--workers", "1"]
    done = CliRunner().invoke(app, [*arguments, *place])
    assert done.exit_code in (0, 1), done.output
    return str(done.exception) if isinstance(done.exception, UserError) else done.output


def test_a_finished_run_of_another_order_is_refused(
    trained: tuple[str, str, Store], tmp_path: Path
) -> None:
    first, second, store = trained
    (mine, run), (other, same) = suite(tmp_path, first), suite(tmp_path, second)
    assert run.id == same.id  # identities do not tell them apart
    assert "all 1 run done" in said(["run", str(mine)], tmp_path, store)
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    for command in ("run", "table", "compare"):
        sentence = said([command, str(other)], tmp_path, store)
        assert f"in the order {ORDERS[first][0]}, and the suite has" in sentence, command
        assert "write task.groups in the run's order" in sentence
        assert "images" not in sentence
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before
    assert "NOT comparable" not in said(["table", str(mine)], tmp_path, store)


@pytest.mark.parametrize("state", ["begun", "failed"])
def test_a_run_that_was_begun_with_another_order_does_not_go_on(
    state: str, trained: tuple[str, str, Store], tmp_path: Path
) -> None:
    first, second, store = trained
    folder = store.folder(suite(tmp_path, first)[1])
    (folder.path / "result.json").unlink()
    if state == "failed":
        folder.fail("error", "of something")
    other, run = suite(tmp_path, second)
    sentence = said(["run", str(other), "--retry-failed"], tmp_path, store)
    assert sentence.startswith(f"{folder.path / 'run.json'}: task.groups numbered")
    assert f"in the order {ORDERS[first][0]}," in sentence
    with pytest.raises(UserError, match="and the suite has them in"):
        store.folder(run).begin(run)  # by whomever it is trained


def test_what_is_trained_anew_may_have_another_order(
    trained: tuple[str, str, Store], tmp_path: Path
) -> None:
    _, second, store = trained
    other, run = suite(tmp_path, second)
    assert "1 run done" in said(["run", str(other), "--retrain"], tmp_path, store)
    assert store.folder(run).result()["images"]["classes"] == ORDERS[second][0].split(", ")


def test_a_record_without_the_order_is_told_apart_by_the_fingerprint(
    trained: tuple[str, str, Store], tmp_path: Path
) -> None:
    first, second, store = trained
    mine, run = suite(tmp_path, first)
    folder = store.folder(run)
    for name, key in (("run.json", "groups"), ("result.json", "images")):
        record = json.loads((folder.path / name).read_text())
        del record[key]
        (folder.path / name).write_text(json.dumps(record))
    assert "all 1 run done" in said(["run", str(mine)], tmp_path, store)
    sentence = said(["run", str(suite(tmp_path, second)[0])], tmp_path, store)
    assert "or task.groups had another order" in sentence
    assert "put those images back" not in sentence
    place = ["--data", str(tmp_path)]
    assert "the same bits" in said(["rerun", run.id[:8], *place], tmp_path, store)
    classes = ORDERS[first][0].split(", ")
    assert list(load_student(run.id[:8], store.root).card.classes) == classes
    record["dataset_fingerprint"] = "0" * 16
    with pytest.raises(UserError, match=r"no order gives its fingerprint on the images in"):
        find_order(record, tmp_path)


def test_a_stored_configuration_has_the_order_of_the_classes(
    trained: tuple[str, str, Store], tmp_path: Path
) -> None:
    first, _, store = trained
    (folder,) = store.folders()
    assert ", ".join(folder.result()["config"]["dataset"]["task"]["groups"]) == ORDERS[first][0]


def test_kept_fingerprints_are_of_one_order(tmp_path: Path) -> None:
    config = {"name": "cifar10", "options": {}, "size": None}
    tasks = [{"groups": {name: ["cat"] for name in names}} for names in ("ab", "ba")]
    keys = {index.signature({**config, "task": task}, tmp_path) for task in tasks}
    assert None not in keys and len(keys) == 2
