"""Cohorts: the same bits alone, together, and however often interrupted; failures stay apart."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wcordbench.data import base
from wcordbench.errors import UserError
from wcordbench.methods.kd import KD
from wcordbench.results import store as store_module
from wcordbench.results.store import StorageError, Store
from wcordbench.results.summary import summarise
from wcordbench.suite import Run
from wcordbench.training import cohort as module
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.failures import kind_of
from wcordbench.training.learner import DivergedError, Learner
from wcordbench.training.pace import Pace

Runs = dict[str, Run]
Train = Callable[..., list[dict[str, Any]]]
Alone = Callable[[Run], tuple[Any, ...]]
Outcome = Callable[[Store, Run], tuple[Any, ...]]

METHODS = ("Student", "KD", "CRD", "WCoRD", "CRD+KD", "AB", "FT")


def kinds(events: list[dict[str, Any]], run: Run) -> list[str]:
    return [e["kind"] for e in events if e.get("run") == run.name]


@pytest.mark.parametrize(
    "together",
    [("Student", "KD"), ("CRD", "AB"), ("Student", "CRD", "WCoRD", "FT"), METHODS],
    ids="+".join,
)
def test_bits_do_not_depend_on_the_cohort(
    runs: Runs,
    store: Store,
    train: Train,
    alone: Alone,
    outcome: Outcome,
    together: tuple[str, ...],
) -> None:
    train(*(runs[name] for name in together))
    for name in together:
        assert outcome(store, runs[name]) == alone(runs[name]), name
        record = store.folder(runs[name]).result()
        assert record["cohort"] == len(together)
        assert (record["teacher_sha256"] is None) == (name == "Student")


def until_done(store: Store, runs: list[Run], seed: int, **options: Any) -> int:
    """Train with stops after some questions whether to stop; returns how many there were."""
    rng = random.Random(seed)
    stops = 0
    while any(store.folder(run).state != "done" for run in runs):
        left = rng.randint(1, 4 * len(runs))

        def should_stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        cohort = Cohort(
            runs, store, Path(), torch.device("cpu"), should_stop=should_stop, **options
        )
        try:
            cohort.train()
        except StoppedError:
            stops += 1
        for run in runs:
            assert store.folder(run).state in ("begun", "done")
            assert not list(store.folder(run).path.glob("*.tmp-*"))
    return stops


@pytest.mark.parametrize("name", ["KD", "CRD+KD", "WCoRD", "AB", "FT"])
def test_stops_do_not_change_the_bits(
    runs: Runs, store: Store, alone: Alone, outcome: Outcome, name: str
) -> None:
    assert until_done(store, [runs[name]], seed=len(name)) >= 2
    assert outcome(store, runs[name]) == alone(runs[name])
    assert not (store.folder(runs[name]).path / "checkpoint.pt").exists()


def test_stops_do_not_change_the_bits_of_a_cohort(
    runs: Runs, store: Store, alone: Alone, outcome: Outcome
) -> None:
    """Members stop at different steps, some in their first stage, and catch up."""
    members = [runs[name] for name in ("Student", "CRD", "WCoRD", "AB")]
    assert until_done(store, members, seed=2) >= 5
    for run in members:
        assert outcome(store, run) == alone(run)


class Killed(BaseException):
    """The process is gone: nothing is written any more."""


@pytest.mark.parametrize(("minutes", "steps"), [(0.0, 8), (10.0, 3), (10.0, 8)])
def test_a_killed_run_continues_from_its_last_checkpoint(
    runs: Runs,
    store: Store,
    train: Train,
    alone: Alone,
    outcome: Outcome,
    minutes: float,
    steps: int,
) -> None:
    left = steps

    def should_stop() -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return False

    run = runs["WCoRD"]
    with pytest.raises(Killed):
        train(run, should_stop=should_stop, checkpoint_minutes=minutes)
    assert store.folder(run).state == "begun"
    events = train(run)
    resumed = [(e["epoch"], e["step"]) for e in events if e["kind"] == "resumed"]
    # 5 steps and one evaluation an epoch; without minutes, a checkpoint an epoch alone.
    assert resumed == ([(1, 2)] if minutes == 0 else [(1, 0)] if steps > 6 else [])
    assert outcome(store, run) == alone(run)


def test_every_machine_that_trained_a_run_is_recorded(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began with other code, or elsewhere, is not one of its last machine's alone."""
    run = runs["Student"]
    machines = [
        {"device_name": name, "threads": 1, "clean": name == "B"} for name in ("A", "A", "B", "B")
    ]
    for number, machine in enumerate(machines):
        monkeypatch.setattr(module, "environment", lambda _, here=machine: dict(here))
        steps = iter(range(100))
        last = number == len(machines) - 1
        with contextlib.nullcontext() if last else pytest.raises(StoppedError):
            train(run, should_stop=lambda steps=steps, last=last: next(steps) == 1 and not last)
    result = store.folder(run).result()
    assert result["environment"]["device_name"] == "B"
    assert result["earlier_environments"] == [machines[0] | {"compile": "off"}]
    assert summarise([run], store, "top1").uncommitted == {run.name}


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("half", "is not the file whose SHA-256 it begins with"),
        ("another", "is another run's"),
        ("images", "was written when the dataset held other images"),
    ],
)
def test_a_checkpoint_that_does_not_belong_fails_its_run_and_stays(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch, damage: str, part: str,
) -> None:  # fmt: skip
    run = runs["CRD"]
    with pytest.raises(StoppedError):
        train(run, runs["CRD+KD"], should_stop=lambda: True)
    folder = store.folder(run)
    file = folder.path / "checkpoint.pt"
    if damage == "half":
        file.write_bytes(file.read_bytes()[:-1])
    if damage == "another":  # of the same shapes throughout, whole, and wrong
        file.write_bytes((store.folder(runs["CRD+KD"]).path / "checkpoint.pt").read_bytes())
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        if damage == "images":
            patch.setattr(Learner, "resume", changed_images(Learner.resume))
        assert kinds(train(run), run) == ["failed"]
    failure = folder.failure()
    assert failure["kind"] == "error" and failure["traceback"] == ""
    assert part in failure["reason"] and "--retry-failed" in failure["reason"]
    assert file.read_bytes() == before
    folder.retry()
    assert "resumed" not in kinds(train(run), run)
    assert outcome(store, run) == alone(run)


def changed_images(resume: Callable[[Learner], bool]) -> Callable[[Learner], bool]:
    def resumed(self: Learner) -> bool:
        self.fingerprint = "0" * 16
        return resume(self)

    return resumed


def test_a_student_is_not_taught_on_other_images_than_its_teacher(
    runs: Runs, store: Store, train: Train
) -> None:
    file = store.folder(runs["teacher"]).path / "result.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "dataset_fingerprint": "0" * 16}))
    with pytest.raises(UserError, match="holds other images than when digits_resnet14"):
        train(runs["KD"])
    assert store.folder(runs["KD"]).state == "begun"
    train(runs["Student"])  # it has no teacher
    assert store.folder(runs["Student"]).state == "done"


def test_a_stop_in_an_evaluation_trains_nothing_again(
    runs: Runs,
    store: Store,
    train: Train,
    alone: Alone,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = 0
    step = Learner.train_step

    def count(self: Learner, *args: Any) -> None:
        nonlocal steps
        steps += 1
        step(self, *args)

    monkeypatch.setattr(Learner, "train_step", count)
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 6  # 5 steps, then the first batch of the test set

    run = runs["KD"]
    with pytest.raises(StoppedError):
        train(run, should_stop=should_stop)
    assert steps == 5
    events = train(run)
    assert steps == 10
    assert [(e["epoch"], e["step"]) for e in events if e["kind"] == "resumed"] == [(0, 5)]
    assert outcome(store, run) == alone(run)


def test_a_diverging_run_leaves_and_the_others_go_on(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome
) -> None:
    diverging, others = runs["diverging"], [runs["KD"], runs["CRD"]]
    events = train(others[0], diverging, others[1])
    assert kinds(events, diverging)[-1] == "failed"
    failure = store.folder(diverging).failure()
    assert failure["kind"] == "diverged" and "epoch 1" in failure["reason"]
    assert store.folder(diverging).state == "failed"
    assert not (store.folder(diverging).path / "result.json").exists()
    for run in others:
        assert outcome(store, run) == alone(run)
    assert train(diverging) == []  # a failed run is not tried again by itself
    store.folder(diverging).retry()
    assert kinds(train(diverging), diverging)[-1] == "failed"


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (RuntimeError("shapes differ\nin detail"), "error", "RuntimeError: shapes differ"),
        (KeyError(), "error", "KeyError"),
        (UserError("kd: no."), "error", "kd: no."),
    ],
)
def test_a_method_that_raises_fails_its_run_alone(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, reason: str,
) -> None:  # fmt: skip
    forward, calls = KD.forward, 0

    def fail(self: KD, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise error
        return forward(self, *args)

    want = alone(runs["Student"])
    monkeypatch.setattr(KD, "forward", fail)
    events = train(runs["KD"], runs["Student"])
    assert calls == 7
    failure = store.folder(runs["KD"]).failure()
    assert (failure["kind"], failure["reason"]) == (kind, reason)
    assert ("Traceback" in failure["traceback"]) == (not isinstance(error, UserError))
    assert [e["reason"] for e in events if e["kind"] == "failed"] == [reason]
    assert outcome(store, runs["Student"]) == want


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("tried 2 GiB"), "out of memory: tried 2 GiB"),
    ],
)
def test_a_run_out_of_memory_leaves_its_cohort_and_fails_only_alone(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str,
) -> None:  # fmt: skip
    forward, calls = KD.forward, 0

    def fail(self: KD, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (7, 8):
            raise error
        return forward(self, *args)

    wanted = {title: alone(runs[title]) for title in ("Student", "KD")}
    monkeypatch.setattr(KD, "forward", fail)
    events = train(runs["KD"], runs["Student"])
    assert [e["reason"] for e in events if e["kind"] == "memory"] == [reason]
    assert outcome(store, runs["Student"]) == wanted["Student"]
    assert store.folder(runs["KD"]).state == "begun"
    train(runs["KD"])
    failure = store.folder(runs["KD"]).failure()
    assert (failure["kind"], failure["reason"]) == ("memory", reason)
    assert "Traceback" in failure["traceback"]
    store.folder(runs["KD"]).retry()
    train(runs["KD"])
    assert outcome(store, runs["KD"]) == wanted["KD"]


@pytest.mark.parametrize("together", [1, 2])
def test_what_raises_in_the_data_fails_every_run_that_needs_it(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    def load(config: Any, root: Path) -> Any:
        raise KeyError("labels")

    monkeypatch.setattr(base, "load", load)
    members = [runs["Student"], runs["KD"]][:together]
    events = train(*members)
    for run in members:
        assert kinds(events, run) == ["failed"]
        failure = store.folder(run).failure()
        assert (failure["kind"], failure["reason"]) == ("error", "KeyError: 'labels'")
        assert "Traceback" in failure["traceback"]


def test_what_fails_in_what_runs_share_leaves_their_checkpoints(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A decoding process that dies is no fault of a run: what it has learned is not lost."""
    want, see, calls = alone(runs["KD"]), Cohort._see, 0

    def fail(self: Cohort, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("DataLoader worker (pid 7) exited unexpectedly")
        return see(self, *args)

    monkeypatch.setattr(Cohort, "_see", fail)
    assert kinds(train(runs["KD"]), runs["KD"])[-1] == "failed"
    folder = store.folder(runs["KD"])
    assert folder.state == "failed"
    folder.retry()
    checkpoint = folder.read_sealed("checkpoint.pt")
    assert checkpoint is not None
    state = torch.load(checkpoint, weights_only=True)
    assert (state["epoch"], state["step"]) > (0, 0)
    assert state["environments"][-1]["compile"] == "off"
    train(runs["KD"])
    assert outcome(store, runs["KD"]) == want


def test_a_cohort_whose_teacher_does_not_fit_beside_it_is_tried_run_by_run(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    see, calls = Cohort._see, 0

    def fail(self: Cohort, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise torch.OutOfMemoryError("tried 2 GiB")
        return see(self, *args)

    monkeypatch.setattr(Cohort, "_see", fail)
    members = [runs["KD"], runs["CRD"]]
    events = train(*members)
    for run in members:
        assert kinds(events, run) == ["memory"]
        assert store.folder(run).state == "begun"
        (resumed,) = [e for e in train(run) if e["kind"] == "resumed"]
        assert (resumed["epoch"], resumed["step"]) == (0, 2)  # nothing was lost
        assert outcome(store, run) == alone(run)


def test_a_method_that_cannot_be_built_fails_its_run_alone(
    runs: Runs,
    store: Store,
    train: Train,
    alone: Alone,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: KD, *args: Any, **options: Any) -> None:
        raise UserError("kd: temperature is 0; raise it")

    monkeypatch.setattr(KD, "__init__", fail)
    train(runs["KD"], runs["Student"])
    assert store.folder(runs["KD"]).failure()["reason"] == "kd: temperature is 0; raise it"
    assert store.folder(runs["Student"]).state == "done"


def test_undefined_is_a_state(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wcordbench.methods.fsp import FlowOfSolution

    def unsupported(cls: type, setup: object) -> str:
        return "channels"

    monkeypatch.setattr(FlowOfSolution, "unsupported", classmethod(unsupported))
    events = train(runs["FSP"], runs["KD"])
    assert kinds(events, runs["FSP"]) == ["undefined"]
    assert store.folder(runs["FSP"]).state == "undefined"
    assert store.folder(runs["FSP"]).failure()["reason"] == "channels"
    assert store.folder(runs["KD"]).state == "done"


def test_a_finished_run_is_not_trained_again(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(runs["Student"])
    files = {f: f.stat().st_mtime_ns for f in store.folder(runs["Student"]).path.iterdir()}

    def fail(*args: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(base, "load", fail)
    assert train(runs["Student"]) == []
    assert {f: f.stat().st_mtime_ns for f in files} == files


def test_a_run_that_another_process_holds_is_left_to_it(
    runs: Runs, store: Store, train: Train
) -> None:
    with store.folder(runs["KD"]).lease():
        events = train(runs["KD"], runs["Student"])
        assert kinds(events, runs["KD"]) == ["busy"]
        assert store.folder(runs["KD"]).state == "missing"
    assert store.folder(runs["Student"]).state == "done"
    assert not store.folder(runs["Student"]).held()


def test_a_run_that_ended_while_its_lease_was_asked_for_is_done(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(runs["Student"])
    states = iter(["begun", "done"])
    monkeypatch.setattr(store_module.RunFolder, "state", property(lambda _: next(states)))
    assert train(runs["Student"]) == []


def test_global_generators_are_left_alone(runs: Runs, train: Train) -> None:
    torch.manual_seed(7)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    train(runs["Student"], runs["CRD"], runs["WCoRD"], runs["FT"])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]


def test_bits_do_not_depend_on_the_global_generator(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome
) -> None:
    want = alone(runs["WCoRD"])
    torch.manual_seed(random.getrandbits(32))
    train(runs["WCoRD"])
    assert outcome(store, runs["WCoRD"]) == want


def test_what_is_recorded(runs: Runs, store: Store, train: Train, small: base.Dataset) -> None:
    events = train(runs["AB"])
    folder = store.folder(runs["AB"])
    record = folder.result()
    metrics = json.loads((folder.path / "metrics.json").read_text())
    assert [m["epoch"] for m in metrics] == [-1, 0, 1]
    assert "test_top1" not in metrics[0] and metrics[0]["learning_rate"] == 0.01
    assert record["scores"] == {
        "top1": metrics[-1]["test_top1"],
        "top5": metrics[-1]["test_top5"],
        "best_top1": max(m["test_top1"] for m in metrics[1:]),
    }
    assert record["dataset_fingerprint"] == small.fingerprint()
    teacher = store.folder(runs["teacher"])
    assert record["teacher_sha256"] == store_module.file_sha256(teacher.path / "student.pt")
    assert record["teacher_sha256"] == teacher.result()["weights_sha256"]
    assert record["ended"] >= record["started"] and record["environment"]["threads"] == 1
    assert kinds(events, runs["AB"]) == ["epoch", "epoch", "epoch", "done"]
    assert sorted(f.name for f in folder.path.iterdir()) == [
        ".lease", "metrics.json", "result.json", "run.json", "student.pt",
    ]  # fmt: skip


def test_the_result_is_written_last(
    runs: Runs, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = store_module.write_atomic

    def note(path: Path, data: bytes) -> None:
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(store_module, "write_atomic", note)
    train(runs["Student"])
    assert written[0] == "run.json"
    assert written[-3:] == ["student.pt", "metrics.json", "result.json"]


def tamper(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("damage", "part"), [(Path.unlink, "is missing"), (tamper, "SHA-256 differs")]
)
def test_a_teacher_without_its_weights_stops_everything(
    runs: Runs, store: Store, train: Train, damage: Any, part: str
) -> None:
    damage(store.folder(runs["teacher"]).path / "student.pt")
    with pytest.raises(UserError, match=part) as error:
        train(runs["Student"], runs["KD"])
    assert "train the teacher again" in str(error.value)
    for name in ("Student", "KD"):  # nothing is wrong with the runs
        assert store.folder(runs[name]).state == "begun"
        assert not store.folder(runs[name]).held()


def test_a_teacher_without_a_result_stops_everything(
    runs: Runs, store: Store, train: Train
) -> None:
    (store.folder(runs["teacher"]).path / "result.json").unlink()
    with pytest.raises(UserError, match=r"result\.json is missing"):
        train(runs["KD"])


def test_a_given_checkpoint_must_be_the_one_of_the_identity(
    runs: Runs, store: Store, train: Train, tmp_path: Path
) -> None:
    weights = store.folder(runs["teacher"]).path / "student.pt"
    digest = store_module.file_sha256(weights)
    config = {**runs["KD"].config, "teacher": {"model": "resnet14", "checkpoint": digest}}
    run = Run(config, None, str(weights), allow_chance=True)
    train(run)
    assert store.folder(run).result()["teacher_sha256"] == digest
    other = Run({**config, "seed": 1}, None, str(weights), allow_chance=True)
    tamper(weights)
    with pytest.raises(UserError, match="not the file that it was"):
        train(other)
    weights.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        train(other)


def test_a_full_disk_stops_everything_and_fails_nothing(
    runs: Runs,
    store: Store,
    train: Train,
    alone: Alone,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith("student.pt"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        train(runs["KD"], runs["Student"])
    monkeypatch.undo()
    assert [store.folder(runs[n]).state for n in ("KD", "Student")] == ["begun", "begun"]


def test_a_results_folder_that_vanishes_is_one_sentence(
    runs: Runs, store: Store, train: Train
) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 3:
            shutil.rmtree(store.root)
        return False

    with pytest.raises(StorageError, match=r"cannot be written \(No such file.*--results"):
        train(runs["KD"], runs["Student"], should_stop=should_stop)
    assert not store.root.exists()


def test_a_clock_that_goes_backwards_changes_nothing(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    want = alone(runs["KD"])
    clock = iter(range(10**9, 0, -3600))  # every look at it is an hour earlier
    monkeypatch.setattr("time.time", lambda: float(next(clock)))
    with pytest.raises(StoppedError):
        train(runs["KD"], should_stop=lambda: True)
    train(runs["KD"])
    assert outcome(store, runs["KD"]) == want
    record = store.folder(runs["KD"]).result()
    assert record["ended"] < record["started"] and record["seconds"] >= 0


def test_checkpoints_take_a_tenth_of_the_time_at_most(
    runs: Runs, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With saving ten times slower than an epoch, later epochs are not saved."""
    saves: list[int] = []
    save = Learner.save

    def slow(self: Learner) -> None:
        saves.append(self.epoch)
        save(self)

    monkeypatch.setattr(Learner, "save", slow)
    clock = iter(range(0, 10**9, 1000))  # every look at the clock is 1000 s later
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    train(runs["AB"], checkpoint_minutes=1e9)
    assert saves == [0]


def test_events_say_how_far_it_is(
    runs: Runs, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "due", lambda _: True)
    events = train(runs["AB"], runs["KD"])
    steps = [(e["epoch"], e["step"], len(e["runs"])) for e in events if e["kind"] == "step"]
    assert steps == [(e, s, 1 if e < 0 else 2) for e in (-1, 0, 1) for s in range(1, 6)]
    assert all(e["images_per_second"] > 0 for e in events if e["kind"] == "step")
    assert events[0]["kind"] == "loaded"


def test_compiled_students_are_the_same_runs(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With a backend that runs the same operations: the bits, the first stage, a resume."""
    whole = Learner.compile
    monkeypatch.setattr(Learner, "compile", lambda self, mode: whole(self, mode, "eager"))
    members, left = [runs["KD"], runs["AB"]], 8

    def should_stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    with pytest.raises(StoppedError):
        train(*members, compile="default", should_stop=should_stop)
    train(*members, compile="default")
    for run in members:
        assert outcome(store, run) == alone(run)
        assert store.folder(run).result()["environment"]["compile"] == "default"


def test_what_all_runs_are_given_is_not_changed_in_place(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Else the runs after it in the cohort would silently learn from other features."""
    members, forward = [runs["KD"], runs["AB"], runs["CRD"], runs["Student"]], KD.forward

    def careless(self: KD, student: Any, teacher: Any, batch: Any) -> Any:
        teacher.logits.div_(4)
        return forward(self, student, teacher, batch)

    with monkeypatch.context() as patch:
        patch.setattr(KD, "forward", careless)
        train(*members)
    reason = store.folder(runs["KD"]).failure()["reason"]
    assert reason.startswith(f"{runs['KD'].name}: its method or network changes")
    for run in members[1:]:
        assert outcome(store, run) == alone(run)


def test_a_fault_of_the_device_costs_no_run_its_checkpoint(
    runs: Runs, store: Store, train: Train, alone: Alone, outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The error may be any run's: none is marked as failed, and all go on in another process."""
    members, taken, step = [runs["KD"], runs["AB"]], [0], Learner.train_step

    def faulty(self: Learner, *args: Any) -> None:
        taken[0] += 1
        if taken[0] == 17:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")
        step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "train_step", faulty)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            train(*members)
    for run in members:
        assert store.folder(run).state == "begun"
    train(*members)
    for run in members:
        assert outcome(store, run) == alone(run)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "memory"),
        (MemoryError(), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "device"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "device"),
        (RuntimeError("Found no NVIDIA driver on your system."), "device"),
        (RuntimeError("No CUDA GPUs are available"), "device"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (DivergedError("nan"), "diverged"),
        (ValueError("CUDA error"), "error"),
    ],
)
def test_kinds_of_failures(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind


def test_what_cannot_be_compiled_fails_with_its_reason(
    runs: Runs, store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs["KD"]
    with pytest.raises(UserError, match="--compile reduce-overhead is for CUDA devices; give"):
        train(run, compile="reduce-overhead")
    assert store.folder(run).state == "missing"  # what concerns all runs marks none as failed

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("no working C++ compiler\nmore")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    train(run, compile="default")
    reason = store.folder(run).failure()["reason"]
    assert reason == "RuntimeError: no working C++ compiler"
