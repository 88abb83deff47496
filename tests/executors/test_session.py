"""The executor's side: order, other processes, lost workers, signals. Its workers are fakes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the fakes' processes inherit it

import fake_worker
from fake_worker import finish, make_run

from wcordbench.errors import UserError
from wcordbench.executors import local, session
from wcordbench.executors.base import InterruptedRunError
from wcordbench.executors.local import LocalExecutor
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.plan import Job
from wcordbench.suite.runs import Run

Events = list[dict[str, Any]]
Execute = Callable[..., Events]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def execute(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Execute]:
    """Runs jobs with fake workers; the events are in ``execute.events`` even after an error."""
    forking = multiprocessing.get_context("fork")  # starts at once: nothing is imported again
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda _: forking)
    monkeypatch.setattr(local, "_work", fake_worker.work)
    monkeypatch.setattr(session, "LOOK_ELSEWHERE", 0.1)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may be under nohup
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    events: Events = []

    def run(*jobs: Job, on_event: Any = None, **options: Any) -> Events:
        events.clear()

        def report(event: dict[str, Any]) -> None:
            events.append(event)
            if on_event is not None:
                on_event(event)

        options = {"device": "cpu", "workers": 2, **options}
        LocalExecutor(store.root, Path(), **options).run(list(jobs), report)
        return events

    run.events = events  # type: ignore[attr-defined]
    yield run
    for worker in (e["pid"] for e in events if e["kind"] == "job"):
        assert not alive(worker)
    assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signal.signal(signal.SIGHUP, hangup)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def said(events: Events, kind: str) -> list[Any]:
    return [e.get("run") or e.get("runs") or e for e in events if e["kind"] == kind]


def job(*runs: Run) -> Job:
    return Job(runs, runs[0].teacher, whole=True)


def test_nothing_to_do_starts_nothing(execute: Execute, store: Store) -> None:
    assert execute() == [] and list(store.root.iterdir()) == []


def test_students_wait_for_their_teacher(execute: Execute, store: Store) -> None:
    teacher = make_run("t", "train")
    students = [make_run("s", "train", teacher, seed) for seed in range(3)]
    plain = make_run("p", "train")
    events = execute(job(*students), job(teacher), job(plain))
    done = said(events, "done")
    assert sorted(done) == sorted(r.name for r in (teacher, plain, *students))
    started = [runs for e in events if e["kind"] == "job" for runs in e["runs"]]
    where = {n: i for i, n in enumerate(started)}
    assert all(where[teacher.name] < where[s.name] for s in students)
    order = [(e["kind"], n) for e in events for n in e.get("runs", [e.get("run")])]
    first_student = min(order.index(("job", s.name)) for s in students)
    assert order.index(("done", teacher.name)) < first_student


@pytest.mark.parametrize(
    ("behaviour", "kind"), [("fail", "failed"), ("die", "lost"), ("leave-quietly", "lost")]
)
def test_students_of_a_teacher_without_result_are_given_up(
    execute: Execute, behaviour: str, kind: str
) -> None:
    teacher = make_run("t", behaviour)
    student, other = make_run("s", "train", teacher), make_run("p", "train")
    events = execute(job(teacher), job(student), job(other))
    assert said(events, "done") == [other.name]
    assert said(events, kind)[0] in (teacher.name, [teacher.name])
    reason = next(e["reason"] for e in events if e.get("run") == student.name)
    assert teacher.name in reason


def test_students_whose_teacher_nobody_trains_are_given_up(execute: Execute) -> None:
    teacher = make_run("t", "train")
    student = make_run("s", "train", teacher)
    assert said(execute(job(student)), "failed") == [student.name]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("die", "SIGKILL"), ("cut", "memory may have run out"), ("leave", "SIGTERM"),
     ("crash", "RuntimeError: no"), ("leave-quietly", "told to stop")],
)  # fmt: skip
def test_a_lost_worker_loses_its_own_runs_alone(
    execute: Execute, store: Store, behaviour: str, reason: str
) -> None:
    before, lost, after = make_run("b", "train"), make_run("l", behaviour), make_run("a", "train")
    other = make_run("o", "train")
    runs = (before, lost, after) if behaviour in ("die", "cut", "leave") else (before, lost)
    events = execute(job(*runs), job(other))
    assert sorted(said(events, "done")) == sorted([before.name, other.name])
    (event,) = [e for e in events if e["kind"] == "lost"]
    assert event["runs"] == [r.name for r in runs[1:]] and reason in event["reason"]
    assert store.folder(lost).state == "begun" and not store.folder(lost).held()


def test_a_run_that_does_not_fit_beside_others_is_tried_alone(execute: Execute) -> None:
    large, small = make_run("l", "memory"), make_run("s", "train")
    events = execute(job(large, small), workers=1)
    assert sorted(said(events, "done")) == sorted([large.name, small.name])
    assert [e["runs"] for e in events if e["kind"] == "job"] == [
        [large.name, small.name], [large.name],
    ]  # fmt: skip


def test_a_run_that_was_done_without_a_word_is_done(execute: Execute) -> None:
    events = execute(job(make_run("q", "quiet")))
    assert [e["kind"] for e in events] == ["job", "done"] and events[1]["top1"] == 50.0


def test_a_user_error_stops_everything(execute: Execute, store: Store) -> None:
    listening, wrong = make_run("l", "listen"), make_run("w", "error")
    with pytest.raises(UserError, match="the data are missing; fetch them"):
        execute(job(listening), job(wrong), job(make_run("later", "train")))
    assert said(execute.events, "lost") == []  # type: ignore[attr-defined]
    assert store.folder(listening).read_sealed("checkpoint.pt") is not None


def test_an_error_in_the_display_leaves_no_worker_behind(execute: Execute, store: Store) -> None:
    run = make_run("l", "listen")

    def broken(event: dict[str, Any]) -> None:
        time.sleep(0.5)  # the worker listens by now
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        execute(job(run), on_event=broken)


# --- signals --------------------------------------------------------------------------


def when_trained(signals: list[int], count: int = 1) -> Any:
    """Sends itself signals, half a second apart, once jobs have started."""
    started = 0

    def send() -> None:
        for number in signals:
            time.sleep(0.5)
            os.kill(os.getpid(), number)

    def on_event(event: dict[str, Any]) -> None:
        nonlocal started
        started += event["kind"] == "job"
        if event["kind"] == "job" and started == count:
            threading.Thread(target=send).start()

    return on_event


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_workers_save(execute: Execute, store: Store, number: int) -> None:
    """A listening worker saves; a loading one, which could not listen, is ended."""
    listening, loading = make_run("l", "listen"), make_run("x", "load")
    before = time.monotonic()
    with pytest.raises(InterruptedRunError) as error:
        execute(
            job(listening), job(loading), job(make_run("later", "train")),
            on_event=when_trained([number], 2),
        )  # fmt: skip
    assert error.value.saved and time.monotonic() - before < 40
    assert store.folder(listening).read_sealed("checkpoint.pt") is not None
    assert store.folder(loading).state == "begun" and not store.folder(loading).held()
    assert len(said(execute.events, "job")) == 2  # type: ignore[attr-defined]
    assert said(execute.events, "lost") == []  # type: ignore[attr-defined]


def test_a_second_signal_does_not_wait(execute: Execute) -> None:
    before = time.monotonic()
    with pytest.raises(InterruptedRunError) as error:
        execute(job(make_run("d", "deaf")), on_event=when_trained([signal.SIGINT] * 2))
    assert not error.value.saved and time.monotonic() - before < 40


def test_a_signal_while_only_waiting(execute: Execute, store: Store) -> None:
    run = make_run("r", "train")

    def on_event(event: dict[str, Any]) -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    with store.folder(run).lease(), pytest.raises(InterruptedRunError):
        execute(job(run), on_event=on_event)


PARENT = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import fake_worker
from wcordbench.executors import local
from wcordbench.suite.plan import Job
if __name__ == "__main__":
    local._work = fake_worker.work
    run = fake_worker.make_run("l", "listen")
    local.LocalExecutor(Path(sys.argv[1]), Path(), "cpu", 1).run(
        [Job((run,))], lambda event: print(event["pid"], flush=True)
    )
"""


def test_workers_leave_when_the_parent_is_killed(store: Store, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        assert alive(worker)
        parent.kill()
        parent.wait()
        folder = store.folder(make_run("l", "listen"))
        eventually(lambda: not alive(worker))
        assert folder.read_sealed("checkpoint.pt") is not None and not folder.held()
    finally:
        parent.kill()
        parent.wait()


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- other processes ------------------------------------------------------------------


class Holder:
    """Another process's hold of a run, as far as locks can tell."""

    def __init__(self, store: Store, run: Run) -> None:
        self.store, self.run = store, run
        self.lease = store.folder(run).lease()
        self.lease.__enter__()
        store.folder(run).begin(run)

    def give_up(self) -> None:
        self.lease.__exit__(None, None, None)

    def finish(self) -> None:
        finish(self.store, self.run, 77.0)
        self.give_up()

    def fail(self) -> None:
        self.store.folder(self.run).fail("diverged", "nan")
        self.give_up()


@pytest.mark.parametrize(
    ("how", "kind"), [("finish", "done"), ("fail", "failed"), ("give_up", "done")]
)
def test_what_another_process_trains_is_waited_for(
    execute: Execute, store: Store, how: str, kind: str
) -> None:
    """A teacher held elsewhere: its student is trained once it is done, also if taken over."""
    teacher = make_run("t", "train")
    student, other = make_run("s", "train", teacher), make_run("o", "train")
    holder = Holder(store, teacher)

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "done" and event["run"] == other.name:
            getattr(holder, how)()

    events = execute(job(teacher), job(student), job(other), on_event=on_event)
    assert said(events, "busy") == [teacher.name]
    assert teacher.name in said(events, kind)
    assert (student.name in said(events, "done")) == (kind == "done")
    trained = [n for e in events if e["kind"] == "job" for n in e["runs"]]
    assert (teacher.name in trained) == (how == "give_up")
    if how == "finish":
        assert next(e["top1"] for e in events if e.get("run") == teacher.name and "top1" in e) == 77
    assert said(events, "lost") == []


def test_a_run_that_another_process_took_first_is_waited_for(
    execute: Execute, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker finds the run held, which was free when it was started."""
    run, together = make_run("r", "train", seed=1), make_run("r", "train", seed=2)
    holder = Holder(store, run)
    noticed: list[Any] = []
    held = RunFolder.held
    monkeypatch.setattr(RunFolder, "held", lambda self: bool(noticed) and held(self))

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "busy":
            noticed.append(event["run"])
            threading.Timer(0.5, holder.finish).start()

    events = execute(job(together, run), on_event=on_event)
    assert noticed == [run.name]
    assert sorted(said(events, "done")) == sorted([run.name, together.name])


def test_runs_that_were_done_meanwhile_are_not_started(execute: Execute, store: Store) -> None:
    teacher, failed = make_run("t", "train"), make_run("f", "train")
    student = make_run("s", "train", teacher)
    finish(store, teacher)
    store.folder(failed).begin(failed)
    store.folder(failed).fail("error", "no")
    events = execute(job(teacher, failed), job(student))
    assert said(events, "job") == [[student.name]]
    assert said(events, "done") == [teacher.name, student.name]
    assert said(events, "failed") == [failed.name]


# --- devices and threads ----------------------------------------------------------------


def test_threads_are_divided_among_the_jobs_that_run(execute: Execute) -> None:
    cores = len(os.sched_getaffinity(0))
    events = execute(job(make_run("a", "train")), job(make_run("b", "train")), workers=4)
    assert [e["threads"] for e in events if e["kind"] == "job"] == [max(1, cores // 2)] * 2
    events = execute(job(make_run("c", "train")), workers=4)
    assert [e["threads"] for e in events if e["kind"] == "job"] == [cores]
    events = execute(job(make_run("d", "train")), threads=3)
    assert [e["threads"] for e in events if e["kind"] == "job"] == [3]


def test_jobs_go_to_the_device_with_the_fewest(
    execute: Execute, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = ["cuda:0", "cuda:1"]
    monkeypatch.setattr("wcordbench.executors.local.available", lambda _: devices)
    runs = [make_run("a", "listen"), *(make_run("b", "train", seed=s) for s in range(2))]

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "done" and len(said(execute.events, "done")) == 2:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedRunError):
        execute(*(job(r) for r in runs), workers=None, on_event=on_event)
    where = {e["runs"][0]: e["device"] for e in execute.events if e["kind"] == "job"}  # type: ignore[attr-defined]
    assert [where[r.name] for r in runs] == ["cuda:0", "cuda:1", "cuda:1"]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", "cuda:99", ""])
def test_an_unknown_device_is_one_sentence(execute: Execute, device: str) -> None:
    with pytest.raises(UserError, match="--device"):
        execute(job(make_run("a", "train")), device=device)


def test_results_that_cannot_be_written_stop_before_a_worker(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(UserError, match="--results"):
        LocalExecutor(place, Path(), "cpu").run([job(make_run("a", "train"))], print)
    shutil.rmtree(tmp_path)
