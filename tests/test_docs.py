"""The three one-file promises, as docs/architecture.md shows them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from wcordbench import registry
from wcordbench.errors import UserError

ROOT = Path(__file__).parents[1]


def test_the_documented_method_model_and_dataset_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, flags=re.DOTALL)
    assert [name for name, _ in blocks] == [
        "l2.py",
        "own_dkd.py",
        "own_simkd.py",
        "tiny.py",
        "noise.py",
    ]
    for name, code in blocks:
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(
        """
name: docs
plugins: [l2.py, own_dkd.py, own_simkd.py, tiny.py, noise.py]
dataset: {name: noise, options: {images: 32}, mean: [0.5], std: [0.25]}
train:
  epochs: 1
  batch_size: 16
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1}
seeds: [0]
pairs: [{teacher: tiny32, student: tiny16, methods: {own_dkd: {options: {nckd: 2.0}}}}]
methods: [student, l2, l2+kd, {name: l2, scale: 0.1, label: L2 (weak)}, own_dkd, own_simkd]
"""
    )
    for command in ("validate", "run", "table"):
        results = [] if command == "validate" else ["--results", str(tmp_path / "results")]
        done = subprocess.run(
            [sys.executable, "-m", "wcordbench.cli.main", command, "suite.yaml", *results],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "L2 (weak)" in done.stdout
    records = [json.loads(p.read_text()) for p in tmp_path.glob("results/runs/*/result.json")]
    assert len(records) == 7  # a teacher and six students
    terms = [term for r in records for term in r["config"]["method"]["terms"]]
    (dkd,) = (term for term in terms if term["name"] == "own_dkd")
    assert dkd["options"]["nckd"] == 2 and dkd["schedule"] == {"warmup": {"epochs": 20}}
    (simkd,) = tmp_path.glob("results/runs/*own_simkd*/student.pt")
    assert "prediction" in torch.load(simkd, weights_only=True)


def own_loop() -> Callable[..., Any]:
    text = (ROOT / "docs" / "own_loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return cast(Callable[..., Any], names["distil"])


def loader(labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    images = torch.randn(len(labels), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return [(images[i], labels[i], i) for i in torch.arange(len(labels)).split(4)]


#: methods that the loop cannot train, and what they miss
UNDEFINED = {
    "ab": "before their last ReLU", "fsp": "the channels", "mlkd": "a second view",
    "mlkd_ls": "a second view", "ofd": "does not say which batch norms",
    "semckd": "the batch size is not known",
}  # fmt: skip


@pytest.mark.parametrize("method", sorted(registry.catalogue("method").keys() - UNDEFINED))
def test_every_method_trains_in_the_documented_loop(method: str) -> None:
    labels = torch.arange(8) % 4
    options = {"wcord": "wcord+kd", "crd": "crd+kd"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student, loss = own_loop()(loader(labels), labels, 4, options.get(method, method))
    assert math.isfinite(loss)
    unused = {"simkd": ("weight", "bias"), "catkd": ("bias",)}.get(method, ())
    head = {id(p) for name, p in student.get_classifier().named_parameters() if name in unused}
    assert all((p.grad is None) == (id(p) in head) for p in student.parameters())


@pytest.mark.parametrize("method", UNDEFINED)
def test_the_documented_loop_says_what_a_method_misses(method: str) -> None:
    labels = torch.arange(8) % 4
    with pytest.raises(UserError, match=UNDEFINED[method]):
        own_loop()(loader(labels), labels, 4, method)


def test_the_documented_loop_says_that_a_method_does_not_exist() -> None:
    labels = torch.arange(8) % 4
    with pytest.raises(UserError, match="unknown method 'crdd'"):
        own_loop()(loader(labels), labels, 4, "crdd")
