"""The suite that training is tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wcordbench.suite import Run, expand, load_suite

SUITE = """
name: small
dataset: {name: digits, mean: [0.5], std: [0.25]}
train:
  epochs: 2
  batch_size: 32
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: true}
  first_stage: {epochs: 1, learning_rate: 0.01}
seeds: [0]
pairs:
  - {teacher: {model: resnet14, train: {epochs: 1}}, student: resnet8}
methods:
  - student
  - kd
  - {name: crd, negatives: 32, feature_dim: 16}
  - {name: wcord, negatives: 32, feature_dim: 16}
  - {name: crd+kd, negatives: 32, feature_dim: 16}
  - ab
  - ft
  - {name: student, label: diverging, train: {learning_rate: 1.0e+30}}
  - {name: fsp, label: FSP}
"""


def suite_of(folder: Path, methods: list[Any]) -> Path:
    """The suite with other methods, as a file."""
    text, _ = SUITE.split("methods:")
    lines = [f"  - {method!s}" for method in methods]
    path = folder / "small.yaml"
    path.write_text(text + "methods:\n" + "\n".join(lines) + "\n")
    return path


def runs_of(folder: Path, *methods: Any) -> list[Run]:
    """The runs of some methods, with the suite's teacher."""
    cells = expand(load_suite(suite_of(folder, list(methods))))
    return [cell.run for cell in cells if cell.method is not None]
