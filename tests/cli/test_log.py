"""Training goes on when nobody reads its log, and ends with the code that it would have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite

SUITE = """
name: log
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 2, batch_size: 256, learning_rate: RATE, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods: [student]
"""
COMMAND = [sys.executable, "-c", "from wcordbench.cli.main import main; main()", "run"]


@pytest.mark.parametrize(("log", "rate", "code"), [
    ("a reader that leaves", "1.0e+30", 1),
    ("a reader that leaves, of errors as well", "0.05", 0),
    ("a full disk", "0.05", 0),
    ("a closed descriptor", "0.05", 0),
])  # fmt: skip
def test_the_log_does_not_matter(log: str, rate: str, code: int, tmp_path: Path) -> None:
    suite = tmp_path / "log.yaml"
    suite.write_text(SUITE.replace("RATE", rate))
    command = [*COMMAND, str(suite), "--results", str(tmp_path / "out"), "--workers", "1",
               "--threads", "1", "--device", "cpu"]  # fmt: skip
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        if log.startswith("a reader"):
            both = subprocess.STDOUT if "errors" in log else stderr
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=both)
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"1 run: 0 done")
            process.stdout.close()
            left = process.wait(timeout=300)
        else:
            into = "> /dev/full 2>&1" if log == "a full disk" else ">&-"
            shell = ["sh", "-c", f'exec "$@" {into}', "sh", *command]
            left = subprocess.run(shell, stderr=stderr, timeout=300).returncode
    assert left == code
    assert "Traceback" not in errors.read_text()
    (run,) = {c.run for c in expand(load_suite(suite))}
    assert Store(tmp_path / "out").folder(run).state == ("failed" if code else "done")
