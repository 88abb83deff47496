"""Two teachers of one architecture in one suite, and values of the protocol that are swept."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from wcordbench.cli.options import select
from wcordbench.errors import UserError
from wcordbench.reporting.render import render
from wcordbench.reporting.sweep import render_sweeps
from wcordbench.reporting.table import build
from wcordbench.results.store import Store
from wcordbench.suite import Suite, expand, load_suite, reference

SUITE = """
name: two
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 4, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0, 1]
pairs:
  - {teacher: resnet20, student: resnet8}
  - {teacher: {model: resnet20, train: {epochs: 9}}, student: resnet8, label: " long  teacher"}
  - {teacher: {model: resnet20, seed: 5}, student: resnet8, label: seed 5}
methods: [student, kd]
"""


def read(folder: Path, *overrides: str) -> Suite:
    (folder / "s.yaml").write_text(SUITE)
    return load_suite(folder / "s.yaml", overrides)


def test_pairs_of_the_same_networks_are_columns_of_their_own(tmp_path: Path) -> None:
    suite = read(tmp_path)
    assert [p.name for p in suite.pairs] == ["resnet20->resnet8", "long teacher", "seed 5"]
    cells = expand(suite)
    assert len({c.run.id for c in cells if c.is_teacher}) == 3
    assert len({c.run.id for c in cells if c.method and c.method.name == "kd"}) == 6
    table = build(suite, cells, Store(tmp_path), None)
    assert table.labels == ["", "long teacher", "seed 5"]
    for form in ("text", "markdown", "latex"):
        assert "long teacher" in render(table, form) and "seed 5" in render(table, form)
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert {r["pair"] for r in rows} == {p.name for p in suite.pairs}


def test_a_pair_is_chosen_by_its_label_or_all_of_its_networks(tmp_path: Path) -> None:
    suite = read(tmp_path, "pairs.0.label=short")

    def chosen(name: str) -> set[str]:
        return {c.pair.name for c in select(suite, [name], None, None)}

    assert chosen("Long teacher") == {"long teacher"}
    assert chosen("resnet20 → resnet8") == {"short", "long teacher", "seed 5"}
    with pytest.raises(
        UserError, match=r"--pair 'sed 5' is not in the suite; did you mean 'seed 5"
    ):
        chosen("sed 5")
    plain = read(tmp_path)  # a pair without a label is called by its networks
    assert {c.pair.name for c in select(plain, ["resnet20->resnet8"], None, None)} == {
        "resnet20->resnet8"
    }


def test_one_pair_of_several_with_one_teacher_shows_one_column(tmp_path: Path) -> None:
    suite = read(tmp_path, "pairs=[{teacher: resnet20, student: resnet8}, {teacher: resnet20,"
                 " student: resnet14}]")  # fmt: skip
    cells = select(suite, ["resnet20->resnet14"], None, None)
    assert build(suite, cells, Store(tmp_path), None).students == ["resnet14"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairs.2.label=long teacher", "'long teacher' is pairs.1 already; give one a label"),
        ("pairs.1={teacher: resnet20, student: resnet8}", "is pairs.0 already; give one a label"),
        ("pairs.1.label='  '", "key 'pairs.1.label' is blank"),
        ("pairs.1={teacher: resnet14, student: resnet8, label: resnet20 → resnet8}",
         "names the networks of another pair"),
    ],
)  # fmt: skip
def test_wrong_labels_are_one_sentence(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, override)


def test_values_of_the_protocol_are_swept_like_options(tmp_path: Path) -> None:
    method = "methods=[{name: kd, temperature: {sweep: [1, 4]}, train: {weight_decay: {sweep: [0,"
    suite = read(tmp_path, method + " 1e-3]}, augment: {crop_padding: {sweep: [1]}}}}]")
    assert [m.title for m in suite.methods][::3] == [
        "KD (temperature = 1, weight_decay = 0, augment.crop_padding = 1)",
        "KD (temperature = 4, weight_decay = 0.001, augment.crop_padding = 1)",
    ]
    runs = [c.run.config for c in expand(suite) if c.method and c.seed == 0][:4]
    found = [(r["method"]["terms"][0]["options"]["temperature"], r["train"]["weight_decay"],
              r["train"]["augment"]["crop_padding"]) for r in runs]  # fmt: skip
    assert found == [(1, 0, 1), (1, 0.001, 1), (4, 0, 1), (4, 0.001, 1)]


def test_editors_take_a_swept_protocol() -> None:
    check = jsonschema.Draft202012Validator(reference.json_schema()).is_valid
    suite = yaml.safe_load(SUITE)
    sweep: dict[str, Any] = {"sweep": [1, 2]}
    for train in ({"weight_decay": sweep}, {"augment": {"crop_padding": sweep}}):
        assert check({**suite, "methods": [{"name": "kd", "train": train}]})
        assert not check({**suite, "pairs": [{**suite["pairs"][0], "train": train}]})
    assert not check({**suite, "methods": [{"name": "kd", "train": {"weight_decoy": sweep}}]})


def test_one_swept_value_of_the_protocol_is_a_wide_table(tmp_path: Path) -> None:
    suite = read(tmp_path, "methods=[{name: kd, train: {learning_rate: {sweep: [0.01, 0.1]}}}]")
    text = render_sweeps(suite, build(suite, expand(suite), Store(tmp_path), None), "text")
    assert text is not None
    assert text.count("learning_rate    0.01    0.1") == 3  # one a pair
    assert "long teacher (resnet20 → resnet8), KD" in text


def test_a_mistake_in_a_swept_protocol_names_its_place(tmp_path: Path) -> None:
    for value, message in (
        ("{sweep: [0.1, -1]}", r"key 'methods\.1\.train\.learning_rate' must be greater than 0"),
        ("{sweep: []}", r"key 'methods\.1\.train\.learning_rate\.sweep' must be a list"),
        ("{sweep: [1.0], x: 1}", r"'methods\.1\.train\.learning_rate' has the key 'x' beside"),
    ):
        with pytest.raises(UserError, match=message):
            read(tmp_path, f"methods.1={{name: kd, train: {{learning_rate: {value}}}}}")
