"""Results as a DataFrame and as files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from wcordbench.cli.main import app, main
from wcordbench.errors import UserError
from wcordbench.results import load
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite

COMMITTED = Path(__file__).parents[2] / "results"
SUITE = """
name: small
dataset: {name: digits, mean: [0.3], std: [0.4]}
train: {epochs: 4, batch_size: 256, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0]
pairs: [{teacher: resnet20, student: resnet8}]
methods: [student, kd, at, {name: crd+kd, temperature: 1}, fsp]
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A teacher and a student done, AT failed, FSP undefined, KD begun; CRD+KD is damaged."""
    (tmp_path / "small.yaml").write_text(SUITE)
    cells = expand(load_suite(tmp_path / "small.yaml"))
    runs = {c.method.title if c.method else "Teacher": c.run for c in cells}
    store = Store(tmp_path / "results")
    for run in runs.values():
        store.folder(run).begin(run)
    for name, top1 in (("Teacher", 99.0), ("Student", 95.5), ("CRD+KD", 96.0)):
        store.folder(runs[name]).finish(_result(runs[name], top1))
    store.folder(runs["AT"]).fail("diverged", "the loss became nan, in epoch 2")
    store.folder(runs["FSP"]).fail("undefined", "channels differ")
    damaged = store.folder(runs["CRD+KD"]).path / "result.json"
    damaged.write_text(damaged.read_text()[:-40])
    return store


def _result(run: Run, top1: float) -> dict[str, object]:
    return {
        "id": run.id, "config": run.config, "environment": {"torch": "2", "cuda": None},
        "scores": {"top1": top1, "top5": 100.0, "best_top1": top1 + 0.5}, "started": 1795405694.5,
    }  # fmt: skip


def test_one_row_a_run_in_every_state(store: Store) -> None:
    frame = load(store.root).set_index("method.name", drop=False)
    assert len(frame) == 6
    assert frame.state.value_counts().to_dict() == {
        "done": 2, "failed": 1, "undefined": 1, "begun": 1, "damaged": 1,
    }  # fmt: skip
    assert frame.loc["at", ["kind", "reason"]].tolist() == [
        "diverged",
        "the loss became nan, in epoch 2",
    ]
    assert frame.loc["fsp", "reason"] == "channels differ"
    (why,) = frame[frame.state == "damaged"].reason
    assert "result.json is damaged" in why


def test_every_parameter_has_a_column_of_its_type(store: Store) -> None:
    frame = load(store).set_index("method.name", drop=False)
    kd = frame.loc["kd"]
    assert kd["method.terms.kd.options.temperature"] == 4.0
    assert frame["method.terms.kd.options.temperature"].dtype == "float64"
    assert frame["train.epochs"].dtype == "Int64"
    assert frame["train.nesterov"].dtype == "boolean"
    assert kd["dataset.mean"] == "[0.3]"
    assert kd["teacher.model"] == "resnet20"
    assert "teacher" not in frame
    assert frame.loc["student", "teacher.run"].isna().all()
    assert frame["environment.cuda"].dtype == "string"  # missing everywhere
    assert str(frame["started"].max()) == "2026-11-23 03:48:14.500000+00:00"


def test_the_committed_results_are_what_their_files_say() -> None:
    frame = load(COMMITTED)
    store = Store(COMMITTED)
    assert (frame.state == "done").all()
    for folder, (_, row) in zip(store.folders(), frame.iterrows(), strict=True):
        record = folder.result()
        assert row["run"] == folder.path.name
        assert row["id"] == record["id"]
        assert row["scores.top1"] == record["scores"]["top1"]
        assert row["train.learning_rate"] == record["config"]["train"]["learning_rate"]


def test_an_empty_store_is_an_empty_frame(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert list(load(tmp_path)["state"]) == []
    with pytest.raises(UserError, match="nowhere does not exist; run a suite first"):
        load(tmp_path / "nowhere")


def test_csv_goes_to_the_screen_and_damage_is_named(store: Store, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "--results", str(store.root)])
    assert done.exit_code == 0
    assert "1 damaged run, in state 'damaged'; wcordbench verify says" in done.stderr
    (tmp_path / "seen.csv").write_text(done.stdout)
    seen = pd.read_csv(tmp_path / "seen.csv")
    assert list(seen["run"]) == list(load(store)["run"])
    assert list(seen.columns) == list(load(store).columns)


def test_parquet_gives_the_frame_back(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    out = tmp_path / "runs.parquet"
    arguments = ["export", "--results", str(store.root), "--format", "parquet", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"wrote {out}: 6 runs" in done.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(out), load(store))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "excel"], "--format 'excel' is unknown"),
        (["--results", "nowhere"], "results folder nowhere does not exist"),
        (["--out", "no/such/folder.csv"], "give another file with --out"),
        (["--format", "parquet", "--out", "x.parquet"], "pip install 'wcordbench[parquet]'"),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "parquet" in options:
        monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    monkeypatch.setattr(sys, "argv", ["wcordbench", "export", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.parquet").exists()


def test_importing_needs_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, wcordbench.results\n"
        "assert not {'torch', 'pandas', 'scipy', 'numpy'} & set(sys.modules)\n"
        "wcordbench.results.load(sys.argv[1])\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, COMMITTED], check=True, timeout=60)
