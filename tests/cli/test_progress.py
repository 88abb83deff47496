"""What ``wcordbench run`` shows: plain lines in a file, a live display on a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wcordbench.cli import progress as module
from wcordbench.cli.progress import Progress
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run


def make(method: str, epochs: int = 4, teacher: Run | None = None, first: int = 0) -> Run:
    train: dict[str, Any] = {"epochs": epochs}
    if first:
        train["first_stage"] = {"epochs": first}
    config = {
        "dataset": {"name": "digits"},
        "model": "small" if teacher else "large",
        "teacher": None if teacher is None else {"model": "large", "run": teacher.id},
        "method": {"name": method, "terms": []},
        "train": train,
        "seed": 0,
    }
    return Run(config, teacher)


TEACHER = make("student")
KD, CRD, AB = make("kd", 4, TEACHER), make("crd", 4, TEACHER), make("ab", 4, TEACHER, first=2)


class Screen:
    """A display, its output, and the clock it looks at."""

    def __init__(
        self,
        runs: list[Run],
        store: Store,
        patch: pytest.MonkeyPatch,
        terminal: bool,
        **options: Any,
    ) -> None:
        self.now = 1000.0
        patch.setattr(module.time, "monotonic", lambda: self.now)
        self.file = io.StringIO()
        console = Console(
            file=self.file, force_terminal=terminal, width=100, color_system=None, highlight=False
        )
        self.progress = Progress(runs, store, console, **options)

    def __call__(self, kind: str, after: float = 0.0, **values: Any) -> str:
        """Show an event some seconds later; returns what it printed."""
        self.now += after
        start = len(self.file.getvalue())
        self.progress({"kind": kind, **values})
        return self.file.getvalue()[start:]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def step(runs: list[Run], epoch: int, step: int, **values: Any) -> dict[str, Any]:
    return {
        "runs": [r.name for r in runs], "epoch": epoch, "step": step, "steps": 10, "epochs": 4,
        "images_per_second": 1234.5, **values,
    }  # fmt: skip


def epoch(run: Run, epoch: int, **values: Any) -> dict[str, Any]:
    return {
        "run": run.name, "epoch": epoch, "epochs": 4, "train_loss": 1.25, "train_top1": 50.0,
        "test_top1": 61.5, "seconds": 12.3, **values,
    }  # fmt: skip


def everything(screen: Screen) -> str:
    """A teacher, its students of whom one fails, one is another process's, one is lost."""
    shown = screen("job", runs=[TEACHER.name], device="cpu", threads=2)
    shown += screen("note", line="cifar100: 45 of 169 MB")
    shown += screen("step", 5, **step([TEACHER], 0, 5))
    shown += screen("epoch", 5, **epoch(TEACHER, 0))
    shown += screen("done", 30, run=TEACHER.name, top1=61.5)
    shown += screen("job", runs=[KD.name, AB.name], device="cuda:0", threads=1)
    shown += screen("resumed", run=KD.name, epoch=2, step=5, steps=10)
    shown += screen("step", 1, **step([AB], -2, 5))
    stage = epoch(AB, -2)
    del stage["test_top1"]
    shown += screen("epoch", 1, **stage)
    shown += screen("step", 1, **step([KD, AB], 2, 6))
    shown += screen("failed", 1, run=KD.name, reason="the loss became nan in epoch 3")
    shown += screen("busy", run=CRD.name)
    shown += screen("undefined", run=CRD.name, reason="channels [8] differ")
    shown += screen("lost", runs=[AB.name], reason="Traceback\n  line\nRuntimeError: [x] no")
    return shown


def test_plain_lines(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen([TEACHER, KD, CRD, AB], store, monkeypatch, terminal=False)
    with screen.progress:
        everything(screen)
        failed = screen.progress.summary()
    lines = screen.file.getvalue().splitlines()
    assert lines.pop(0) == f"4 runs: 0 done, 0 failed, 4 to train; results in {store.root}"
    assert "\x1b" not in screen.file.getvalue()
    times, lines = zip(*(line.split(" ", 1) for line in lines if line[:2].isdigit()), strict=True)  # type: ignore[assignment]
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", t) for t in times)
    # 1 of 18 epochs in 10 s: 170 s for the other 17. Then, with 2.5 epochs of another day,
    # 5 of 15.5 in 42 s: 88 s for the other 10.5.
    assert list(lines) == [
        f"training 1 run on cpu with 2 threads: {TEACHER.name}",
        "cifar100: 45 of 169 MB",
        f"{TEACHER.name}: epoch 1/4, loss 1.2500, train 50.00%, test 61.50%, 12 s; 2 min 50 s left",
        f"{TEACHER.name}: done, 61.50% (1 of 4)",
        f"training 2 runs together on cuda:0 with 1 thread: {KD.name}, {AB.name}",
        f"{KD.name}: resumed in epoch 3/4",
        f"{AB.name}: epoch 1/2 of the first stage, loss 1.2500, train 50.00%, 12 s;"
        " 1 min 28 s left",
        f"{KD.name}: failed, the loss became nan in epoch 3",
        f"{CRD.name}: another process is training it; waiting for that",
        f"{CRD.name}: N/A, channels [8] differ",
        f"{AB.name}: lost, Traceback",
        f"failed: {KD.name}: the loss became nan in epoch 3",
        f"failed: {AB.name}: RuntimeError: [x] no",
        "run again with --retry-failed to train the failed runs again",
    ]
    assert failed == [KD.name, AB.name]


def test_a_terminal_shows_what_is_in_training(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen([TEACHER, KD, CRD, AB], store, monkeypatch, terminal=True)

    def display() -> str:
        console = Console(file=io.StringIO(), width=100)
        console.print(screen.progress._display())
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]

    with screen.progress:
        everything(screen)
        assert KD.name not in display()
        screen("step", 1, **step([CRD, AB], -1, 5))
        screen("step", 1, **step([CRD], 1, 5, images_per_second=10.0))
        screen("epoch", **epoch(CRD, 1))
        shown = display()
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.strip()}
    assert rows["training"] == ["epoch", "images/s", "loss", "test", "top-1"]
    assert rows[CRD.name] == ["1.50/4", "10", "1.250", "61.50"]
    assert rows[AB.name] == ["first", "1.50/2", "1.250"]  # its images count with the other's
    assert "2/4" in shown and "left" in shown
    text = screen.file.getvalue()
    assert "\x1b[?25l" in text and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_rows_go_when_runs_are_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen([TEACHER, KD, CRD, AB], store, monkeypatch, terminal=False)
    screen("step", **step([KD, CRD, AB], 0, 1))
    assert list(screen.progress.active) == [KD.name, CRD.name, AB.name]
    screen("done", run=KD.name, top1=1.0)
    screen("failed", run=CRD.name, reason="x")
    screen("lost", runs=[AB.name], reason="y")
    assert screen.progress.active == {}


def test_the_time_left_weighs_networks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher's epoch costs 3·100, a student's 3·10 and half the teacher's 100."""
    screen = Screen(
        [TEACHER, KD, CRD], store, monkeypatch, terminal=False,
        macs=lambda run: (10, 100) if run.teacher else (100, 0),
    )  # fmt: skip
    assert screen.progress._eta() == "? left"
    assert screen.progress.work == 4 * 300 + 2 * 4 * 80
    screen("epoch", 60, **epoch(TEACHER, 1))  # 600 in 60 s: 1240 are left
    assert screen.progress._eta() == "2 min 04 s left"
    screen("done", 60, run=TEACHER.name, top1=1.0)  # 1200 in 120 s
    assert screen.progress._eta() == "1 min 04 s left"
    screen("epoch", 3600, **epoch(KD, 0))
    assert re.fullmatch(r"27 min \d\d s left", screen.progress._eta())
    screen("failed", 30000, run=KD.name, reason="x")  # nothing is left of it
    assert screen.progress._eta().startswith("1 h 5")


def test_what_was_done_before_says_nothing_of_the_pace(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen([KD], store, monkeypatch, terminal=False)
    screen("resumed", run=KD.name, epoch=2, step=0, steps=10)
    assert screen.progress._eta() == "? left"
    screen("step", 50, **step([KD], 2, 5))  # half an epoch of the two that are left
    assert screen.progress._eta() == "2 min 30 s left"


def test_finished_runs_of_before_are_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for run, how in ((TEACHER, "done"), (KD, "failed"), (CRD, "undefined")):
        folder = store.folder(run)
        folder.begin(run)
        if how == "done":
            folder.finish({"id": run.id, "config": run.config, "scores": {"top1": 1.0}})
        else:
            folder.fail(how, "its reason")
    screen = Screen([TEACHER, KD, CRD], store, monkeypatch, terminal=True)
    with screen.progress:
        assert screen.progress.live is None  # nothing is trained
        assert screen.progress.summary() == [KD.name]
    assert "3 runs: 2 done, 1 failed, 0 to train" in screen.file.getvalue()


def test_a_summary_without_failures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen([KD], store, monkeypatch, terminal=False)
    with screen.progress:
        assert screen.progress.summary() == []
        assert "0 of 1 run done" in screen.file.getvalue()
        screen("done", run=KD.name, top1=99.0)
        screen("from a later executor", run=KD.name)
        assert screen.progress.summary() == []
    assert screen.file.getvalue().rstrip().endswith("all 1 run done")


def test_long_names_are_not_cut_in_a_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen([KD], store, monkeypatch, terminal=False)
    assert screen("note", line="x" * 500).count("\n") == 1


def test_a_line_a_minute_says_how_far_an_epoch_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen([KD, CRD], store, monkeypatch, terminal=False)
    assert screen("step", 59, **step([KD, CRD], 0, 2)) == ""
    line = screen("step", 1, **step([KD, CRD], 0, 5))
    assert f"{KD.name} and 1 more: epoch 1/4, step 5/10, 1234 images/s; 7 min 00 s left" in line
    assert screen("step", 59, **step([KD, CRD], 0, 6)) == ""
    assert screen("epoch", 0, **epoch(KD, 0)).count("\n") == 1
    assert screen("step", 59, **step([CRD], 0, 9)) == ""  # any line is one
    assert f"{CRD.name}: epoch 1/4" in screen("step", 1, **step([CRD], 0, 9))
    terminal = Screen([KD], store, monkeypatch, terminal=True)
    with terminal.progress:
        assert "images/s; " not in terminal("step", 600, **step([KD], 0, 5))
