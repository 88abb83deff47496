"""A published number stands beside the runs of its very configuration, and beside no other."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wcordbench.reporting import freeze, published
from wcordbench.reporting.compare import judged, not_judged, verdicts
from wcordbench.reporting.configuration import differences, of_run
from wcordbench.reporting.render import render
from wcordbench.reporting.table import Table, build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite
from wcordbench.suite.runs import Cell, Run

from .test_table import PAIR, finish

SUITES = Path(__file__).parents[2] / "suites"

#: not the paper's in nearly everything, under the paper's names
UNLIKE = """
name: unlike
dataset: {name: cifar100, mean: [0.5071, 0.4867, 0.4408], std: [0.2675, 0.2565, 0.2761]}
train:
  epochs: 240
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: step, milestones: [150, 180, 210]}
seeds: [0, 1]
pairs: [{teacher: vgg13, student: vgg8}]
methods:
  [student, kd, {name: kd, temperature: 8, label: hot}, {name: crd, train: {weight_decay: 0.001}}]
"""


def read(text: str, folder: Path, *overrides: str) -> Suite:
    (folder / "s.yaml").write_text(text)
    return load_suite(folder / "s.yaml", overrides)


def other(value: Any) -> Any:
    """A valid value of the same kind that is another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else 0.75 * value + 0.0031
    if value == []:
        return [{"name": "kd", "weight": 1.0, "options": {"temperature": 4.0}}]
    if isinstance(value, list):
        return [other(value[0]), *value[1:]]
    names = {"cifar100": "cifar10", "step": "one_cycle", "fp32": "bf16", "nce": "dual"}
    return names.get(value, "resnet14" if isinstance(value, str) else 16)


def leaves(config: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from leaves(value, (*at, key))
    elif isinstance(config, list) and config and isinstance(config[0], dict):
        for i, value in enumerate(config):
            yield from leaves(value, (*at, i))
    else:
        yield at


def changed(config: dict[str, Any], at: tuple[Any, ...]) -> dict[str, Any]:
    config = copy.deepcopy(config)
    inner: Any = config
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = {"x": 1} if inner[at[-1]] == {} else other(inner[at[-1]])
    return config


def variants(cell: Cell) -> Iterator[tuple[str, Cell]]:
    """The cell with any one leaf of its configuration or its teacher's changed."""
    for at in leaves(cell.run.config):
        if at not in (("seed",), ("teacher",), ("teacher", "run")):
            run = replace(cell.run, config=changed(cell.run.config, at))
            yield str(at), replace(cell, run=run)
    if cell.run.teacher is not None:
        for at in leaves(cell.run.teacher.config):
            if at not in (("seed",), ("teacher",)):
                teacher = Run(changed(cell.run.teacher.config, at))
                config = {**cell.run.config, "teacher": {**cell.run.config["teacher"]}}
                config["teacher"]["run"] = teacher.id
                yield f"teacher {at}", replace(cell, run=Run(config, teacher))


def test_any_leaf_that_differs_takes_the_number_from_its_cell_and_from_the_verdicts(
    tmp_path: Path,
) -> None:
    suite = load_suite(SUITES / "cifar100.yaml", ["seeds=[0]"])
    store, count = Store(tmp_path), 0
    for cell in expand(suite):
        found = published.beside(cell, "top1")
        if found is None:  # of the sums two are published, and FSP of six pairs
            assert cell.method is not None and (
                "+" in cell.method.name or cell.method.name == "fsp"
            )
            continue
        assert found.alike
        for at, variant in variants(cell):
            beside = published.beside(variant, "top1")
            assert beside is None or not beside.alike, (cell.run.name, at)
            if cell.pair.name == PAIR and cell.method is not None:  # the whole way: slower
                folder = store.folder(variant.run)
                folder.begin(variant.run)
                record = {"id": variant.run.id, "config": variant.run.config}
                folder.finish({**record, "scores": {"top1": 70.0}})
                table = build(suite, [variant], store, None)
                assert not any(e.published for _, entries in table.rows for e in entries)
                assert list(verdicts(judged(table))) == []
            count += 1
    print(count, "leaves were changed, one at a time")
    assert count > 4000


def row(table: Table, name: str) -> list[Any]:
    return dict(table.rows)[name]


def test_seeds_do_not_part_a_run_from_its_number(tmp_path: Path) -> None:
    suite = load_suite(
        SUITES / "cifar100.yaml", ["seeds=[7, 8]", "pairs.6.teacher={model: vgg13, seed: 3}"]
    )
    table = build(suite, expand(suite), Store(tmp_path), None)
    assert all(e.published for name in ("Teacher", "KD", "WCoRD+KD") for e in row(table, name))


def test_what_differs_is_said_where_it_differs(tmp_path: Path) -> None:
    suite = read(UNLIKE, tmp_path)
    table = build(suite, expand(suite), Store(tmp_path), None)
    shown = {name: entries[0].published is not None for name, entries in table.rows}
    assert shown == {"Teacher": True, "Student": True, "KD": True, "hot": False, "CRD": False}
    text = render(table, "text")
    assert "[1] no published number: kd temperature 8, published 4." in text
    assert "[2] another protocol: weight decay 0.001 in place of 0.0005" in text
    assert table.remarks[-1] == "In brackets: the published number."
    asked = build(suite, expand(suite), Store(tmp_path), "published")
    assert all(e.published for _, entries in asked.rows for e in entries)
    assert "NOT comparable" in asked.remarks[-1]
    assert "not the published run: kd temperature 8, published 4" in render(asked, "text")


def test_a_number_that_was_asked_for_is_not_judged_by(tmp_path: Path) -> None:
    suite, store = read(UNLIKE, tmp_path), Store(tmp_path)
    pair = suite.pairs[0].name
    finish(store, suite, {(m.title, pair): [74.0, 74.2] for m in suite.methods})
    table = judged(build(suite, expand(suite), store, "published"))
    assert {name for name, _, _ in verdicts(table)} == {"Student", "KD"}
    assert not_judged(suite) is None
    slow = read(UNLIKE, tmp_path, "train.learning_rate=0.04")
    assert "the protocol is not the published one" in str(not_judged(slow))


@pytest.mark.parametrize("at", ["pairs.0.train={momentum: 0.8}", "train.precision=bf16",
                                "dataset.mean=[0.5, 0.5, 0.5]", "train.nesterov=true",
                                "views.student={size: 16}"])  # fmt: skip
def test_what_all_cells_differ_in_is_said_once(at: str, tmp_path: Path) -> None:
    suite = read(UNLIKE, tmp_path, at)
    table = build(suite, expand(suite), Store(tmp_path), None)
    assert not any(
        e.published for name, entries in table.rows for e in entries if name != "Teacher"
    )
    assert sum("Not the published protocol on CIFAR-100" in r for r in table.remarks) == 1


def test_rows_of_one_column_that_were_trained_otherwise_are_marked(tmp_path: Path) -> None:
    text = """
name: mixed
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 2, batch_size: 64, learning_rate: 0.1, schedule: {type: one_cycle}}
seeds: [0]
pairs:
  - teacher: {model: resnet20, train: {epochs: 9}}
    student: resnet8
    methods: {crd: {batch_size: 32}}
  - {teacher: resnet20, student: resnet14, train: {learning_rate: 0.2}}
methods: [student, kd, {name: kd, train: {augment: {flip: false}}, label: still}, crd]
"""
    suite = read(text, tmp_path)
    table = build(suite, expand(suite), Store(tmp_path), None)
    notes = {
        (name, column): [table.notes[i - 1] for i in entry.notes]
        for name, entries in table.rows
        for column, entry in enumerate(entries)
        if entry.notes
    }
    assert notes == {
        ("Teacher", 0): ["another protocol: 9 epochs in place of 2 epochs"],
        ("still", 0): ["another protocol: no flips in place of flips"],
        ("still", 1): ["another protocol: no flips in place of flips"],
        ("CRD", 0): ["another protocol: batch size 32 in place of 64"],
    }
    assert "Students of resnet20 → resnet14: learning rate 0.2 in place of 0.1." in table.remarks


def test_the_sentence_on_seeds_counts_those_shown(tmp_path: Path) -> None:
    suite = read(UNLIKE, tmp_path)
    one = [cell for cell in expand(suite) if cell.seed == 0]
    assert build(suite, one, Store(tmp_path), None).remarks[0].startswith("One seed")
    assert "over 2 seeds" in build(suite, expand(suite), Store(tmp_path), None).remarks[0]


def test_a_teacher_from_a_file_stands_beside_the_published_teacher(tmp_path: Path) -> None:
    (tmp_path / "t.pth").write_bytes(b"weights")
    given = f"pairs.0.teacher={{model: vgg13, checkpoint: {tmp_path / 't.pth'}}}"
    suite = read(UNLIKE, tmp_path, given)
    table = build(suite, expand(suite), Store(tmp_path), None)
    assert row(table, "Teacher")[0].published.mean == 74.64
    assert row(table, "KD")[0].published is not None
    small = read(UNLIKE, tmp_path, given, "dataset.size=16")
    table = build(small, expand(small), Store(tmp_path), None)
    assert not any(e.published for _, entries in table.rows for e in entries)


def test_numbers_have_a_rule_and_a_protocol_and_stand_beside_their_rule_only(
    full: Suite, tmp_path: Path
) -> None:
    with (Path(published.__file__).parent / "published.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {r["rule"] for r in rows} == {"last", "best", "not stated"}
    quoted = [r for r in rows if r["table"].startswith(("quoted", "re-implemented"))]
    assert quoted and all(r["protocol"].startswith("quoted") for r in quoted)
    assert all(r["protocol"] for r in rows)
    best = build(full, expand(full), Store(tmp_path), None, "best")
    shown = [e.published for _, entries in best.rows for e in entries if e.published]
    assert all(number.rule == "best" for number in shown)
    last = build(full, expand(full), Store(tmp_path), None)
    shown = [e.published for _, entries in last.rows for e in entries if e.published]
    assert len(shown) == 7 * 18 - 1 and {number.rule for number in shown} == {"last"}


def test_later_methods_stand_beside_numbers_of_the_best_epoch_alone(tmp_path: Path) -> None:
    suite = load_suite(SUITES / "later.yaml")
    rows = {
        rule: dict(build(suite, expand(suite), Store(tmp_path), None, rule).rows)
        for rule in ("last", "best")
    }
    number = rows["best"]["DKD"][0].published
    assert number is not None
    assert (number.mean, number.rule, number.protocol) == (71.97, "best", "mdistiller-240-best")
    assert rows["last"]["DKD"][0].published is None
    # Trained with two views, another batch or another schedule: a number, but not of this run.
    for row in ("MLKD-LS", "ReviewKD", "NORM"):
        assert not any(e.published for e in rows["best"][row])
    for rule, found in rows.items():
        shown = [e.published for entries in found.values() for e in entries if e.published]
        assert shown and {n.rule for n in shown} == {rule}
        assert not any(n.protocol.startswith("quoted") for n in shown)


def test_an_edited_suite_does_not_become_the_published_protocol(tmp_path: Path) -> None:
    text = (SUITES / "cifar100.yaml").read_text(encoding="utf-8")
    suite = read(text.replace("learning_rate: 0.05\n", "learning_rate: 0.1\n"), tmp_path)
    table = build(suite, expand(suite), Store(tmp_path), None)
    assert not any(e.published for _, entries in table.rows for e in entries)


def test_what_the_shipped_suites_expand_to_is_what_is_frozen() -> None:
    assert freeze.frozen(SUITES) == freeze.FILE.read_text(encoding="utf-8"), (
        "run python -m wcordbench.reporting.freeze"
    )
    for (teacher, student, _), found in published.numbers().items():
        for number in found:
            assert (published.configuration(number, teacher, student) is not None) == (
                number.protocol in published.PROTOCOLS
            )


def test_one_and_true_are_not_alike() -> None:
    base = {"teacher": None, "x": 1}
    assert differences(base, {**base, "x": 1.0}) == []
    assert len(differences(base, {**base, "x": True})) == 1
    (cell, *_) = expand(load_suite(SUITES / "digits.yaml"))
    assert "seed" not in of_run(cell.run)
    assert json.dumps(of_run(cell.run))


@pytest.fixture
def full() -> Suite:
    return load_suite(SUITES / "cifar100.yaml")


def test_later_numbers_stand_beside_the_best_epoch_of_their_suites(tmp_path: Path) -> None:
    suite = load_suite(SUITES / "later.yaml", ["seeds=[0]"])
    best = build(suite, expand(suite), Store(tmp_path), None, "best")
    dkd = dict(zip(best.names, row(best, "DKD"), strict=True))
    assert dkd["wrn_40_2->wrn_16_2"].published.rule == "best"
    assert dkd["resnet110->resnet20"].published is None
    last = build(suite, expand(suite), Store(tmp_path), None)
    assert row(last, "DKD")[0].published is None and row(last, "KD")[0].published is not None
    other = load_suite(SUITES / "later.yaml", ["seeds=[0]", "pairs.0.methods.dkd.options.nckd=3.0"])
    changed = build(other, expand(other), Store(tmp_path), None, "best")
    assert row(changed, "DKD")[0].published is None
    assert any("dkd nckd 3, published 2" in note for note in changed.notes)
