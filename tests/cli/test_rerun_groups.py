"""A run of a task's groups, trained again: classes are numbered as its suite numbered them."""

from __future__ import annotations

from pathlib import Path

import torch

from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite
from wcordbench.training.again import differences, train_again
from wcordbench.training.cohort import Cohort

SUITE = """
name: parity
dataset: {name: digits, mean: [0.3058], std: [0.3764]}
task: {groups: {odd: ['1', '3', '5', '7', '9'], even: ['0', '2', '4', '6', '8']}}
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student]
"""


def test_groups_keep_the_suites_order(tmp_path: Path) -> None:
    (tmp_path / "parity.yaml").write_text(SUITE)
    run = next(c.run for c in expand(load_suite(tmp_path / "parity.yaml")) if c.method)
    store = Store(tmp_path / "results")
    Cohort([run], store, tmp_path, torch.device("cpu")).train()
    stored = store.folder(run)
    assert stored.result()["images"]["classes"] == ["odd", "even"]  # not as they sort
    again = train_again(stored, store, tmp_path / "again", tmp_path, None, lambda _: None)
    assert differences(stored, again) == []
