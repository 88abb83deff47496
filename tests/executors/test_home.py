"""What a Ray worker without the results folder is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("ray")

from wcordbench.executors.home import Home, _Away
from wcordbench.suite.plan import Job
from wcordbench.suite.runs import Run


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_teachers_file_keeps_the_suffix_that_says_how_it_is_read(
    tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(b"weights")
    config: dict[str, Any] = {
        "dataset": {"name": "digits"}, "model": "resnet8", "method": {"name": "kd"}, "seed": 0,
        "teacher": {"model": "resnet8", "checkpoint": "0" * 64}, "train": {"epochs": 1},
    }  # fmt: skip
    job = Job((Run(config, checkpoint=str(file)),), None)
    home = Home(str(tmp_path / "results"), "token")
    sent = home.claim(0, job, [], {})
    away = _Away(tmp_path / "scratch", cast(Any, None))
    (run,) = away.unpack(sent, job).runs
    assert run.checkpoint is not None and Path(run.checkpoint).suffix == suffix
    assert Path(run.checkpoint).read_bytes() == b"weights"
    home.release(0)
