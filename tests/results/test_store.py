"""The run store: whole files or none, nothing changed unnoticed, one process a run."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from wcordbench.errors import UserError
from wcordbench.results import store as module
from wcordbench.results.store import (
    FORMAT,
    RunBusyError,
    RunFolder,
    StorageError,
    Store,
    file_sha256,
    to_json,
    write_atomic,
)
from wcordbench.suite.runs import Run

CONFIG = {
    "dataset": {"name": "digits"},
    "model": "resnet8",
    "teacher": None,
    "method": {"name": "student", "terms": []},
    "train": {"epochs": 2},
    "seed": 0,
}
METRICS = [
    {"epoch": e, "test_top1": 40.0 + e, "test_top5": 89.0 + e, "train_loss": 1.5} for e in range(2)
]


@pytest.fixture
def run() -> Run:
    return Run(CONFIG)


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> RunFolder:
    folder = Store(tmp_path).folder(run)
    folder.begin(run)
    return folder


@pytest.fixture
def done(folder: RunFolder, run: Run) -> RunFolder:
    folder.write_bytes("student.pt", b"weights")
    folder.write_metrics(METRICS)
    folder.finish(record(folder, run))
    return folder


def record(folder: RunFolder, run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "config": run.config,
        "scores": {"top1": 41.0, "top5": 90.0, "best_top1": 41.0},
        "metrics_sha256": file_sha256(folder.path / "metrics.json"),
    }


def one_sentence(error: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    assert "\n" not in str(error.value) and error.value.__cause__ is None
    for part in parts:
        assert part in str(error.value)


# --- writing ------------------------------------------------------------------------

CALLS: list[tuple[Any, str]] = [
    (tempfile, "mkstemp"),
    *((os, name) for name in ("fdopen", "fsync", "chmod", "replace", "open")),
]


@pytest.mark.parametrize(("where", "name"), CALLS, ids=[n for _, n in CALLS])
@pytest.mark.parametrize("old", [b"old", None], ids=["replaced", "new"])
def test_a_failing_call_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, old: bytes | None
) -> None:
    file = tmp_path / "a.json"
    if old is not None:
        write_atomic(file, old)
    real, calls = getattr(where, name), 0
    for failing in range(1, 4):  # the first, second … call of this name
        calls = 0

        def fail(*args: Any, failing: int = failing, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        monkeypatch.setattr(where, name, fail)
        try:
            write_atomic(file, b"new")
        except StorageError as error:
            assert "No space left on device" in str(error) and str(file) in str(error)
            assert "\n" not in str(error)
        else:
            assert calls < failing
        monkeypatch.setattr(where, name, real)
        assert calls, f"{name} was never called"
        content = file.read_bytes() if file.exists() else None
        assert content in (old, b"new")
        leftovers = [f.name for f in tmp_path.iterdir() if f != file]
        assert leftovers == []
        if calls < failing:
            assert content == b"new"
            break


def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "a", b"old")
    fdopen = os.fdopen

    def half(*args: Any) -> Any:
        file = fdopen(*args)

        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *exc: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full()

    monkeypatch.setattr(os, "fdopen", half)
    with pytest.raises(StorageError) as error:
        write_atomic(tmp_path / "a", b"new content")
    one_sentence(error, "No space left", "--results", "finished runs are kept")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error:
        write_atomic(tmp_path / "gone" / "a", b"x")
    one_sentence(error, "gone/a", "No such file or directory")


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_json_is_exact_and_refuses_nan() -> None:
    assert (
        to_json({"b": 0.1 + 0.2, "a": [1]})
        == b'{\n "a": [\n  1\n ],\n "b": 0.30000000000000004\n}\n'
    )
    with pytest.raises(ValueError, match=r"NaN|nan|JSON"):
        to_json({"loss": float("nan")})


# --- states -------------------------------------------------------------------------


def test_states_are_what_the_files_say(tmp_path: Path, run: Run) -> None:
    folder = Store(tmp_path).folder(run)
    assert folder.state == "missing" and not folder.held() and not folder.path.exists()
    folder.begin(run)
    assert folder.state == "begun"
    assert json.loads((folder.path / "run.json").read_text()) == {
        "id": run.id, "config": CONFIG, "format": FORMAT,
    }  # fmt: skip
    folder.write_sealed("checkpoint.pt", b"position")
    folder.fail("diverged", "the loss became nan in epoch 3", "Traceback …")
    assert folder.state == "failed" and folder.failure()["reason"].startswith("the loss")
    folder.retry()
    assert folder.state == "begun" and folder.read_sealed("checkpoint.pt") is None
    folder.retry()  # nothing to forget
    folder.fail("undefined", "channels differ")
    assert folder.state == "undefined"
    folder.write_sealed("checkpoint.pt", b"position")
    folder.write_metrics(METRICS)
    folder.finish(record(folder, run))
    assert folder.state == "done"
    assert sorted(f.name for f in folder.path.iterdir()) == [
        "metrics.json", "result.json", "run.json",
    ]  # fmt: skip
    assert [f.path for f in Store(tmp_path).folders()] == [folder.path]
    assert Store(tmp_path / "nowhere").folders() == []


@pytest.mark.parametrize(("own", "left"), [(True, None), (False, b"position")])
def test_a_retry_keeps_a_checkpoint_that_is_not_to_blame(
    folder: RunFolder, own: bool, left: bytes | None
) -> None:
    folder.write_sealed("checkpoint.pt", b"position")
    folder.fail("error", "a process died", own=own)
    folder.retry()
    found = folder.read_sealed("checkpoint.pt")
    assert (found and found.read()) == left and folder.state == "begun"


def test_finishing_survives_files_that_do_not_go(
    folder: RunFolder, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_metrics(METRICS)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", fail)
    folder.finish(record(folder, run))
    assert folder.state == "done"
    with pytest.raises(StorageError) as error:
        folder.retry()
    one_sentence(error, "Permission denied")


def test_the_same_run_has_the_same_folder(tmp_path: Path, run: Run) -> None:
    store = Store(str(tmp_path))
    assert store.folder(run).path == store.folder(Run(dict(reversed(CONFIG.items())))).path
    assert store.folder(Run({**CONFIG, "seed": 1})).path != store.folder(run).path


# --- places that cannot be written ----------------------------------------------------


def places(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "file"
    file.write_text("")
    yield file
    yield file / "below"
    yield Path("/proc/results")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, run: Run) -> None:
    for place in places(tmp_path):
        store = Store(place)
        assert store.folder(run).state == "missing" and not store.folder(run).held()
        for attempt in (
            store.prepare,
            lambda s=store: s.folder(run).begin(run),
            store.folder(run).make,
        ):
            with pytest.raises(StorageError) as error:
                attempt()
            one_sentence(error, str(place), "--results")
        with pytest.raises(StorageError), store.folder(run).lease():
            pass
    Store(tmp_path / "fine").prepare()
    assert list((tmp_path / "fine" / "runs").iterdir()) == []


# --- sealed files ---------------------------------------------------------------------


def test_sealed_files_are_whole_or_nothing(folder: RunFolder) -> None:
    payload = bytes(range(256)) * 8
    assert folder.read_sealed("checkpoint.pt") is None
    folder.write_sealed("checkpoint.pt", payload)
    read = folder.read_sealed("checkpoint.pt")
    assert read is not None and read.read() == payload
    file = folder.path / "checkpoint.pt"
    data = file.read_bytes()
    damaged = [data[:n] for n in (0, 1, 64, 65, 66, len(data) - 1)]
    damaged += [data + b"x", data[65:], data.upper()]
    for position in (0, 63, 64, 65, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        damaged.append(bytes(changed))
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(UserError) as error:
            folder.read_sealed("checkpoint.pt")
        one_sentence(error, "checkpoint.pt is not the file", "--retry-failed")
        assert file.read_bytes() == content
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError) as error:
        folder.read_sealed("checkpoint.pt")
    one_sentence(error, "checkpoint.pt cannot be read", "--retry-failed")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda r: r.update(format=FORMAT + 1), "newer wcordbench"),
        (lambda r: r["config"].update(seed=7), "was changed"),
        (lambda r: r.update(id="0" * 16), "was changed"),
    ],
)
def test_a_folder_that_is_not_the_runs_is_not_begun(
    folder: RunFolder, run: Run, change: Any, part: str
) -> None:
    folder.begin(run)
    folder.begin(run)  # once more changes nothing
    record = json.loads((folder.path / "run.json").read_text())
    change(record)
    (folder.path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError) as error:
        folder.begin(run)
    one_sentence(error, "run.json", part)
    assert json.loads((folder.path / "run.json").read_text()) == record


# --- results --------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_written(done: RunFolder, run: Run) -> None:
    assert done.result() == {**record(done, run), "format": FORMAT}
    (done.path / "metrics.json").unlink()  # not kept by everyone
    assert done.result()["scores"]["top1"] == 41.0


def change(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: {**record, **values}


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (change(config={**CONFIG, "seed": 1}), "does not have the identity"),
        (change(id="0" * 16), "does not have the identity"),
        (change(config={**CONFIG, "seed": 1}, id=Run({**CONFIG, "seed": 1}).id), "another run"),
        (change(scores={"top1": 99.0}), "not that of the last epoch"),
        (change(scores={"top1": 40.0}), "not that of the last epoch"),
        (change(scores={"top1": 41.0, "top5": 91.0}), "top5 is not that of the last epoch"),
        (change(scores={"top1": 41.0, "auc": 91.0}), "auc is not that of the last epoch"),
        (change(scores={"top1": 41.0, "best_top1": 45.0}), "best_top1 is not that"),
        (change(scores={"top1": "high"}), "'high'"),
        (change(scores={"top1": float("nan")}), "nan"),
        (change(scores={"top1": 101}), "101"),
        (change(scores={}), "missing"),
        (change(scores=[]), "missing"),
        (change(config=None), "identity"),
        (change(config={"x": float("nan")}), "missing"),
        (change(metrics_sha256="0" * 64), "metrics.json is not the file"),
        (lambda _: {}, "missing"),
        (lambda _: [], "missing"),
        (lambda _: "text", "missing"),
    ],
)
def test_an_edited_result_is_refused(done: RunFolder, edit: Any, part: str) -> None:
    file = done.path / "result.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    with pytest.raises(UserError) as error:
        done.result()
    one_sentence(error, "result.json was changed", part, "train the run again")


def test_edited_metrics_are_refused(done: RunFolder) -> None:
    done.write_metrics([*METRICS[:-1], {**METRICS[-1], "test_top1": 99.0}])
    with pytest.raises(UserError, match=r"metrics\.json is not the file"):
        done.result()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": 1', b"[" * 100000])
def test_a_damaged_record_is_one_sentence(done: RunFolder, content: bytes) -> None:
    (done.path / "result.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        done.result()
    one_sentence(error, "result.json is damaged", "delete", "train the run again")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "error"}', '"kind reason"'])
def test_a_damaged_failure_is_one_sentence(folder: RunFolder, content: str) -> None:
    (folder.path / "failure.json").write_text(content)
    with pytest.raises(UserError) as error:
        _ = folder.state
    one_sentence(error, "failure.json is damaged", "delete")


@pytest.mark.parametrize("version", [FORMAT + 1, 99, "2", None])
def test_a_newer_format_is_refused(done: RunFolder, version: Any) -> None:
    file = done.path / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": version}))
    with pytest.raises(UserError) as error:
        done.result()
    one_sentence(error, f"newer wcordbench (format {version}", "upgrade")


# --- leases ---------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from wcordbench.results.store import RunFolder
with RunFolder(Path(sys.argv[1])).lease():
    (Path(sys.argv[1]) / ".metrics.json.tmp-half").write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lease_excludes_other_processes_and_ends_with_them(folder: RunFolder) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert folder.held()
        with pytest.raises(RunBusyError), folder.lease():
            pass
        assert (folder.path / ".metrics.json.tmp-half").exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        assert not folder.held()
        with folder.lease():
            assert folder.held()
            assert not (folder.path / ".metrics.json.tmp-half").exists()
        assert not folder.held()
    finally:
        holder.kill()
        holder.wait()


def test_a_lease_is_given_back_after_an_error(folder: RunFolder) -> None:
    with pytest.raises(KeyError), folder.lease():
        raise KeyError
    with folder.lease():
        pass


def test_who_may_only_read_believes_the_holder(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with folder.lease(), monkeypatch.context() as patch:
        patch.setattr(filelock.FileLock, "acquire", refuse)
        assert folder.held()
        holder = folder.holder()
        assert holder is not None and holder["pid"] == os.getpid()
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert not folder.held() and folder.holder() is None


@pytest.mark.skipif(sys.platform == "win32", reason="has locks of another kind")
def test_a_file_that_is_there_is_no_lock(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has no locks, a lock file would stay when its holder's machine dies."""
    import fcntl

    def flock(*args: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError) as error, folder.lease():
        pass
    one_sentence(error, "Function not implemented", "--results")


def test_a_file_system_without_locks_is_one_sentence(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lock:
        def __init__(self, path: Path) -> None:
            pass

        def acquire(self, blocking: bool) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.filelock, "FileLock", Lock)
    with pytest.raises(StorageError) as error, folder.lease():
        pass
    one_sentence(error, "No locks available", "--results")
