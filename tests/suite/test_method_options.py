"""Options of methods that a pair has, schedules and rates: in a run's identity where given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wcordbench.errors import UserError
from wcordbench.suite import expand, load_suite
from wcordbench.suite.check import remarks

SUITE = """
name: s
dataset: {{name: digits, mean: [0.5], std: [0.25]}}
train: {{epochs: 2, batch_size: 32, learning_rate: 0.05, schedule: {{type: one_cycle}}}}
seeds: [0]
pairs:
  - {{teacher: resnet14, student: resnet8, methods: {pair}}}
  - {{teacher: resnet20, student: resnet8}}
methods: {methods}
"""


def configs(folder: Path, pair: str, methods: str) -> dict[tuple[str, str], dict[str, Any]]:
    path = folder / "s.yaml"
    path.write_text(SUITE.format(pair=pair, methods=methods))
    cells = [c for c in expand(load_suite(path)) if c.method is not None]
    return {
        (c.method.title, c.pair.teacher.model): c.run.config["method"] for c in cells if c.method
    }


def terms(found: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = found["terms"]
    return listed


def test_a_pair_gives_a_methods_options(tmp_path: Path) -> None:
    pair = "{dkd: {options: {nckd: 2.0, beta: 3.0}}, kd: {options: {temperature: 2.0, gamma: 0.5}}}"
    found = configs(tmp_path, pair, "[kd, dkd, dkd+kd, crd+kd]")
    (own,), (other,) = (terms(found["DKD", t]) for t in ("resnet14", "resnet20"))
    assert (own["options"]["nckd"], own["weight"]) == (2, 3)
    assert (other["options"]["nckd"], other["weight"]) == (8, 1)
    assert found["KD", "resnet14"]["gamma"] == 0.5 and found["KD", "resnet20"]["gamma"] == 0.1
    # Options hold in a sum; weights only of its first part, gamma where it stands alone.
    dkd, kd = terms(found["DKD+KD", "resnet14"])
    assert (dkd["weight"], kd["weight"], kd["options"]["temperature"]) == (3, 1, 2)
    crd, kd = terms(found["CRD+KD", "resnet14"])
    assert (crd["options"]["temperature"], kd["options"]["temperature"]) == (0.07, 2)
    assert found["CRD+KD", "resnet14"]["gamma"] == 1


def test_what_is_not_given_is_no_part_of_the_identity(tmp_path: Path) -> None:
    methods = (
        "[kd, dkd, {name: dkd, schedule: constant, label: flat},"
        " {name: kd, lr_factor: 2.0, schedule: {cosine: {after: 1}}, label: c}]"
    )
    found = configs(tmp_path, "{}", methods)
    (kd,), (dkd,), (flat,), (c,) = (
        terms(found[title, "resnet20"]) for title in ("KD", "DKD", "flat", "c")
    )
    assert set(kd) == set(flat) == {"name", "weight", "options"}
    assert dkd["schedule"] == {"warmup": {"epochs": 20}}
    assert (c["lr_factor"], c["schedule"]) == (2, {"cosine": {"after": 1}})


@pytest.mark.parametrize(
    ("pair", "methods", "sentence"),
    [
        ("{dkd: {options: {nckd: 2.0}}}", "[{name: dkd, nckd: 4.0}]",
         "key 'pairs.0.methods.dkd.options.nckd': the row 'DKD' gives it as well"),
        ("{dkd: {options: {beta: 2.0}}}", "[{name: dkd, beta: 4.0}]",
         "key 'pairs.0.methods.dkd.options.beta': the row 'DKD' gives it as well"),
        ("{dkd: {options: {nckt: 2.0}}}", "[dkd]",
         "key 'pairs.0.methods.dkd.options.nckt': method 'dkd' has no such option; did you mean"),
        ("{dkd: {options: {nckd: much}}}", "[dkd]", "key 'pairs.0.methods.dkd.options.nckd' must"),
        ("{dkd: {options: {beta: -1}}}", "[dkd]", "key 'pairs.0.methods.dkd.options.beta' must"),
        ("{}", "[{name: dkd, schedule: slow}]", "must be 'constant', or a mapping of warmup"),
        ("{}", "[{name: dkd, schedule: {warmup: {epochs: 0}}}]",
         "key 'methods.0.schedule.warmup.epochs' must be greater"),
        ("{}", "[{name: dkd, schedule: {warmp: {epochs: 3}}}]",
         "unknown key 'methods.0.schedule.warmp'; did you mean 'warmup'?"),
        ("{}", "[{name: dkd, schedule: {steps: {until: [5, 3], factors: [1.0, 1.0, 1.0]}}}]",
         "key 'methods.0.schedule.steps.until' must ascend"),
        ("{}", "[{name: dkd, schedule: {steps: {until: [5], factors: [1.0]}}}]",
         "key 'methods.0.schedule.steps.factors' must be 2"),
        ("{}", "[{name: dkd, schedule: {warmup: {epochs: 2}, cosine: {after: 1}}}]",
         "has cosine and warmup; give one of them"),
        ("{}", "[{name: dkd, lr_factor: 0}]", "key 'methods.0.lr_factor' must be greater than 0"),
    ],
)  # fmt: skip
def test_mistakes_name_the_key(pair: str, methods: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        configs(tmp_path, pair, methods)
    assert sentence in str(error.value)


def test_a_schedule_longer_than_training_is_remarked(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    methods = "[dkd, {name: dkd, schedule: constant, label: flat}, {name: kd, label: KD+,"
    methods += " schedule: {warmup: {epochs: 2}}}]"
    path.write_text(SUITE.format(pair="{}", methods=methods))
    (remark,) = remarks(load_suite(path))
    assert remark.startswith("DKD: the weight of dkd changes until epoch 20, and training ends")
