"""A pair of timm's networks through the real loop: real digits, a trained teacher, real methods."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite
from wcordbench.training.cohort import Cohort

SUITE = """
name: timm
dataset: {name: digits, mean: [0.3], std: [0.4]}
train:
  epochs: 4
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
views: {teacher: {size: 16}, student: {size: 16}}
seeds: [0]
pairs: [{teacher: "timm:resnet10t", student: "timm:mobilenetv3_small_050"}]
methods:
  - kd
  - fitnet
  - {name: crd, negatives: 256}
  - {name: wcord, negatives: 256}
"""


@pytest.mark.slow
def test_a_pair_of_timm_trains(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    (tmp_path / "timm.yaml").write_text(SUITE)
    runs = list(dict.fromkeys(c.run for c in expand(load_suite(tmp_path / "timm.yaml"))))
    store = Store(tmp_path / "results")
    for cohort in ([runs[0]], runs[1:]):
        Cohort(cohort, store, tmp_path, torch.device("cpu")).train()
    assert len(runs) == 5
    for run in runs:
        metrics = store.folder(run).read_json("metrics.json")
        assert metrics[-1]["train_loss"] < 0.9 * metrics[0]["train_loss"], run.name
        assert store.folder(run).result()["scores"]["top1"] > 20  # ten classes
