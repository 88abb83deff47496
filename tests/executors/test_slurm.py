"""submitit's own processes for the whole path; for SLURM the scripts that sbatch would get."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
submitit = pytest.importorskip("submitit")

import real_slurm  # noqa: E402
from small import Small, interrupt_at  # noqa: E402

from wcordbench.errors import UserError  # noqa: E402
from wcordbench.executors import base, slurm  # noqa: E402
from wcordbench.executors.base import InterruptedRunError, Options  # noqa: E402
from wcordbench.executors.slurm import SlurmExecutor, _minutes  # noqa: E402


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "LOOK", 1.0)


def make(folder: Path, *wanted: str, **options: Any) -> SlurmExecutor:
    own = {"slurm": list(wanted)}
    made = base.by_name("slurm", Options(folder / "store", folder, own=own, **options))
    assert isinstance(made, SlurmExecutor)
    return made


def check_arrays_and_requeue(small: Small, executor: SlurmExecutor) -> None:
    """The teacher's array, then its students' with one of them preempted in training."""
    small.train_locally()
    where: dict[str, int] = {}
    preempted: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "job":
            where.update(dict.fromkeys(event["runs"], event["pid"]))
        elif event["kind"] == "epoch" and event["epochs"] == 4 and not preempted:
            preempted.append(event["run"])
            os.kill(where[event["run"]], signal.SIGUSR2)  # as SLURM does

    events = small.train(executor, on_event)
    small.check(small.store("store"), events)
    notes = [e["line"] for e in events if e["kind"] == "note"]
    assert [n.partition(" to ")[0] for n in notes if n.startswith("submitted")] == [
        "submitted 1 job", "submitted 2 jobs",
    ]  # fmt: skip
    (run,) = preempted
    assert sum("back in the queue" in n for n in notes) == 1
    assert [e["run"] for e in events if e["kind"] == "resumed"] == [run]
    epochs = [e["epoch"] for e in events if e["kind"] == "epoch" and e["run"] == run]
    assert epochs == list(range(4))
    assert sum(e["kind"] == "job" and e["runs"] == [run] for e in events) == 2


def test_arrays_and_requeue_with_the_local_bits(tmp_path: Path) -> None:
    check_arrays_and_requeue(Small(tmp_path, 4), make(tmp_path, "cluster=local", workers=2))


@pytest.mark.slow
def test_a_real_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same through slurmctld and slurmd, on a partition with two GPUs in name."""
    if reason := real_slurm.missing():
        pytest.skip(reason)
    cluster = real_slurm.RealSlurm(tmp_path / "slurm")
    try:
        cluster.start()
        monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        wanted = "partition=gpu,gpus_per_node=1,time=1:00:00"
        small = Small(tmp_path, epochs=4)
        check_arrays_and_requeue(small, make(tmp_path, wanted, workers=2, device="cpu"))
        ctrl_c_saves_and_cancels(Small(tmp_path, 60), make(tmp_path, wanted, device="cpu"))
        end = time.monotonic() + 30  # the last word is said before the process has ended
        while queue := cluster.run("squeue", "--noheader"):
            assert time.monotonic() < end, queue
            time.sleep(0.5)
    finally:
        cluster.stop()


def ctrl_c_saves_and_cancels(small: Small, executor: SlurmExecutor) -> None:
    with pytest.raises(InterruptedRunError) as error:
        small.train(executor, interrupt_at("epoch", 2))
    assert error.value.saved
    store = small.store("store")
    states = [store.folder(r).state for r in small.runs]
    assert states[0] == "done" and "begun" in states
    for run in small.runs[1:]:
        folder = store.folder(run)
        assert not folder.held()
        assert folder.state == "missing" or folder.read_sealed("checkpoint.pt") is not None
    assert {p.name for p in store.root.iterdir()} == {"runs"}


def test_ctrl_c_saves_and_cancels(tmp_path: Path) -> None:
    ctrl_c_saves_and_cancels(Small(tmp_path, 60), make(tmp_path, "cluster=local", workers=1))


def test_a_job_that_ends_without_a_word_is_lost(tmp_path: Path) -> None:
    small = Small(tmp_path, epochs=1)

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "job":
            os.kill(event["pid"], signal.SIGKILL)

    events = small.train(make(tmp_path, "cluster=local"), on_event)
    (lost,) = [e for e in events if e["kind"] == "lost"]
    assert lost["runs"] == [small.runs[0].name] and "ended without a word; see" in lost["reason"]
    assert Path(lost["reason"].rpartition("see ")[2]).is_file()
    failed = [e["run"] for e in events if e["kind"] == "failed"]
    assert sorted(failed) == sorted(r.name for r in small.runs[1:])


# --- SLURM's side, without SLURM ----------------------------------------------------------

SBATCH = """#!/bin/sh
cp "$1" {folder}/script
{then}
"""


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An sbatch that keeps the script and refuses it; returns where the script is."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("sbatch", SBATCH.format(folder=tmp_path, then="echo 'no such partition' >&2; exit 1")),
        ("srun", "#!/bin/sh\n"),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return tmp_path / "script"


def directives(script: str) -> dict[str, str]:
    lines = [line[len("#SBATCH --") :] for line in script.splitlines() if "#SBATCH" in line]
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def documented() -> tuple[list[str], str]:
    """The options of the documented command and the script under it."""
    text = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
    script = text.partition("```sh\n#!/bin/bash")[2].partition("```")[0]
    command = next(line for line in text.splitlines() if "gpus_per_node" in line)
    return command.partition("--slurm ")[2].split()[0].split(","), script


def test_the_documented_script_is_what_a_two_gpu_partition_gets(
    tmp_path: Path, sbatch: Path
) -> None:
    wanted, script = documented()
    small = Small(tmp_path, epochs=1)
    store = small.store("store")
    small.train_locally()
    store.root.mkdir()
    small.local.root.joinpath("runs").rename(store.root / "runs")
    for run in small.runs[1:]:
        (store.folder(run).path / "result.json").unlink()
    with pytest.raises(UserError, match=r"sbatch refuses the jobs \(.*no such partition"):
        small.train(make(tmp_path, *wanted, workers=2))
    have, want = directives(sbatch.read_text()), directives(script)
    other = ("array", "error", "output")  # another suite in another folder
    assert {k: v for k, v in have.items() if k not in other} == {
        k: v for k, v in want.items() if k not in other
    }
    assert (
        have["array"] == "0-1%2"
        and want["array"].endswith("%2")
        and have["signal"] == "USR2@120"
        and "requeue" in have
    )
    assert {p.name for p in store.root.iterdir()} <= {"runs", ".sessions"}


def test_an_option_that_submitit_does_not_know_is_passed_on(tmp_path: Path, sbatch: Path) -> None:
    small = Small(tmp_path, epochs=1)
    with pytest.raises(UserError, match="sbatch refuses"):
        small.train(make(tmp_path, "reservation=mine,qos=low", "gres=gpu:a100:1"))
    have = directives(sbatch.read_text())
    assert have["reservation"] == "mine" and have["qos"] == "low" and have["gres"] == "gpu:a100:1"
    assert "array" not in have  # the teacher alone


def test_jobs_go_on_a_gpu_where_one_is_asked_for(tmp_path: Path) -> None:
    assert make(tmp_path, "gpus_per_node=1").device == "cuda:0"
    assert make(tmp_path, "gres=gpu:1").device == "cuda:0"
    assert make(tmp_path, "gres=shard:1").device == "cuda:0"  # what --per-gpu's refusal names
    assert make(tmp_path, "tres_per_task=gres/gpu:1").device == "cuda:0"
    assert make(tmp_path, "partition=gpu").device == "cpu"
    assert make(tmp_path, "gres=gpu:1", device="cpu").device == "cpu"
    assert make(tmp_path, "cpus-per-task=3").threads == 3


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:30", 91), ("12:00:00", 720), ("1-00", 1440), ("1-2:30", 1590), ("0:1", 1)],
)
def test_times_in_the_forms_of_sbatch(text: str, minutes: int) -> None:
    assert _minutes(text) == minutes


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["partition"], "--slurm 'partition' is not KEY=VALUE"),
        (["time=soon"], "--slurm time=soon is no time; write minutes or D-HH:MM:SS"),
        (["time=0"], "give at least a minute"),
        (["cluster=moon"], "--slurm cluster=moon is unknown; valid: slurm, local"),
        (["job-name=mine"], "--slurm job_name=mine is not yours to give; leave it out"),
        (["wckey=w"], "--slurm wckey=w is not yours to give; leave it out"),
        (
            ["signal_delay_s=9"],
            "--slurm signal_delay_s=9 is not yours to give; jobs are told 120 s",
        ),
        (["array_parallelism=4"], "is not yours to give; say --workers"),
        (["srun_args=-v"], "is not yours to give; leave it out"),
        (["additional_parameters=x"], "--slurm additional_parameters=x is not yours"),
        (["cpus_per_task=two"], "--slurm cpus_per_task=two is no number of them; write cpus_per_"),
        (["cpus-per-task=0"], "--slurm cpus_per_task=0 is no number"),
        (["cluster=local", "gpus_per_node=a100:1"], "--slurm gpus_per_node=a100:1 is no number"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, wanted: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, *wanted).submitter(tmp_path)


def test_no_slurm_here_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sbatch and srun are not on this machine"):
        make(tmp_path).submitter(tmp_path)
    with pytest.raises(UserError, match="--per-gpu: SLURM shares GPUs itself"):
        make(tmp_path, per_gpu=2)
