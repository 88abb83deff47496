"""The three one-file promises, as docs/architecture.md shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_documented_method_model_and_dataset_run(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, flags=re.DOTALL)
    assert [name for name, _ in blocks] == ["l2.py", "tiny.py", "noise.py"]
    for name, code in blocks:
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(
        """
name: docs
plugins: [l2.py, tiny.py, noise.py]
dataset: {name: noise, options: {images: 32}, mean: [0.5], std: [0.25]}
train:
  epochs: 1
  batch_size: 16
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1}
seeds: [0]
pairs: [{teacher: tiny32, student: tiny16}]
methods: [student, l2, l2+kd, {name: l2, scale: 0.1, label: L2 (weak)}]
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
    assert len(records) == 5  # a teacher and four students
