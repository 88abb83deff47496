"""README and the committed results agree."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.reporting.render import render
from wcordbench.reporting.table import build
from wcordbench.results.store import Store
from wcordbench.suite import expand, load_suite
from wcordbench.suite.runs import digest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "cifar100_cpu"),
        ("docs/results.md", "privileged_cpu_long"),
        ("docs/results.md", "privileged_cpu"),
        ("docs/results.md", "cifar100_cpu_baselines"),
        ("docs/results.md", "cifar100_cpu_later"),
        ("docs/wcord.md", "wcord_readings"),
    ],
)
def test_the_pages_show_the_committed_tables(page: str, name: str) -> None:
    suite = load_suite(ROOT / "suites" / f"{name}.yaml")
    table = render(build(suite, expand(suite), Store(ROOT / "results"), None), "markdown")
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"`wcordbench table suites/{name}.yaml --format markdown`" in text
    lines = [line.rstrip() for line in text.splitlines()]
    shown = [line.rstrip() for line in table.splitlines()]
    assert shown in [lines[i : i + len(shown)] for i in range(len(lines))]


def test_the_first_table_is_what_its_command_prints() -> None:
    name = "suites/digits_kd.yaml"
    command = ["compare", name, "--baseline", "student", "--format", "markdown"]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`wcordbench {' '.join(command)}`" in text
    command[1] = str(ROOT / name)
    printed = CliRunner().invoke(app, [*command, "--results", str(ROOT / "results")])
    assert printed.exit_code == 0, printed.output
    shown = [
        line.rstrip() for line in printed.stdout.splitlines() if "|" in line or "minus" in line
    ]
    lines = [line.rstrip() for line in text.splitlines() if line]
    assert shown in [lines[i : i + len(shown)] for i in range(len(lines))]
    suite = load_suite(ROOT / name)
    teacher = next(c.run for c in expand(suite) if c.method is None)
    top1 = Store(ROOT / "results").folder(teacher).result()["scores"]["top1"]
    assert f"(teacher: {top1:.2f})" in text


def test_every_committed_run_is_whole_and_of_a_shipped_suite() -> None:
    store = Store(ROOT / "results")
    suites = [load_suite(path) for path in (ROOT / "suites").glob("*.yaml")]
    given = [s for s in suites if all(p.teacher.checkpoint is None for p in s.pairs)]
    assert {s.name for s in suites} - {s.name for s in given} == {"imagenet"}  # needs a file
    names = {cell.run.name for suite in given for cell in expand(suite)}
    fingerprints: dict[str, set[str]] = {}
    for folder in store.folders():
        if folder.state != "done":
            continue
        record = folder.result()
        assert folder.path.name in names
        metrics = (folder.path / "metrics.json").read_bytes()
        assert hashlib.sha256(metrics).hexdigest() == record["metrics_sha256"]
        assert folder.read_json("metrics.json")[-1]["test_top1"] == record["scores"]["top1"]
        assert record["environment"]["clean"] is True
        dataset = digest(record["config"]["dataset"])
        fingerprints.setdefault(dataset, set()).add(record["dataset_fingerprint"])
    assert all(len(found) == 1 for found in fingerprints.values())


@pytest.mark.parametrize(
    "name", ["digits", "cifar100", "cifar100_cross", "cifar100_cpu", "cifar100_cpu_baselines"]
)
def test_the_shipped_suites_expand(name: str) -> None:
    suite = load_suite(ROOT / "suites" / f"{name}.yaml")
    assert len(expand(suite)) == len(suite.pairs) * (1 + len(suite.methods) * len(suite.seeds))
