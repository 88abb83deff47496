"""What ``make reproduce`` does, shown by make itself without doing it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUN = ".venv/bin/wcordbench run suites/"
PAIR = "--pair 'resnet56->resnet20' --seed 0"


def planned(*arguments: str) -> list[str]:
    """The commands of wcordbench, in order."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "reproduce", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if line.startswith(".venv/bin/wcordbench")]


def runs(commands: list[str]) -> list[str]:
    return [c.removeprefix(RUN).partition(" --results")[0] for c in commands if c.startswith(RUN)]


def test_without_a_cuda_device_the_digits_are_trained_and_compared() -> None:
    commands = planned("CUDA=0")
    assert runs(commands) == ["digits_kd.yaml"]
    assert [c.split()[1] for c in commands] == ["run", "table", "compare"]
    assert "--baseline student" in commands[-1]


def test_with_a_cuda_device_nothing_long_starts_and_the_estimate_comes_first() -> None:
    commands = planned("CUDA=1")
    assert commands[0].startswith(f".venv/bin/wcordbench plan suites/table1.yaml {PAIR}")
    assert runs(commands) == ["digits_kd.yaml", f"table1.yaml {PAIR}"]


@pytest.mark.parametrize(
    ("stage", "suites", "plans"),
    [
        ("digits", ["digits_kd.yaml"], 0),
        ("pair", [f"table1.yaml {PAIR}"], 1),
        ("table1", ["table1.yaml"], 1),
        (
            "all",
            ["digits_kd.yaml", f"table1.yaml {PAIR}", "table1.yaml", "cifar100.yaml",
             "cifar100_cross.yaml"],
            4,
        ),
    ],
)  # fmt: skip
def test_stages(stage: str, suites: list[str], plans: int) -> None:
    """Each prints what it takes before anything trains, and ends in a table."""
    commands = planned("CUDA=8", f"STAGE={stage}")
    verbs = [c.split()[1] for c in commands]
    assert runs(commands) == suites
    assert verbs[:plans] == ["plan"] * plans and "plan" not in verbs[plans:]
    trained = [i for i, verb in enumerate(verbs) if verb == "run"]
    assert all(verbs[i + 1] == "table" for i in trained)


def test_an_unknown_stage_is_named() -> None:
    done = subprocess.run(
        ["make", "reproduce", "STAGE=tabel1"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "STAGE=tabel1 is unknown; valid: digits, pair, table1, all" in done.stderr
