"""Killed anywhere and started again, a suite ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.faults import harness
from wcordbench.results.store import StorageError, Store
from wcordbench.results.verify import verify
from wcordbench.suite import Run
from wcordbench.training import cohort

Groups = tuple[list[Run], list[Run]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A fork has no use for the threads of its parent; asking git takes longer than training."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "environment", lambda device: {"device": device.type})
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Groups:
    return harness.suite_runs(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, groups: Groups) -> Path:
    """The store of a training that nothing interrupted; forks find everything imported."""
    root = tmp_path_factory.mktemp("whole")
    assert harness.train(Store(root), groups, lambda: False)
    return root


@pytest.mark.parametrize("kills", [12, pytest.param(400, marks=pytest.mark.slow)])
def test_killed_anywhere_the_store_ends_the_same(
    kills: int, groups: Groups, whole: Path, tmp_path: Path
) -> None:
    struck, stores = harness.storm(tmp_path, groups, kills)
    want = harness.contents(whole)
    different = [
        f"{root.name}/{name}"
        for root in stores
        for name in harness.contents(root).keys() | want.keys()
        if harness.contents(root).get(name) != want.get(name)
    ]
    print(
        f"\n{struck.total()} kills ({dict(struck)}) over {len(stores)} stores of"
        f" {len(want)} files: {len(different)} files differ"
    )
    assert struck.total() >= kills
    assert different == []
    for root in stores:
        assert verify(Store(root)) == (sum(map(len, groups)), [])


@pytest.mark.parametrize(
    ("processes", "kills"),
    [
        (2, 4),
        pytest.param(2, 60, marks=pytest.mark.slow),
        pytest.param(4, 60, marks=pytest.mark.slow),
    ],
)
def test_several_processes_train_every_run_once(
    processes: int, kills: int, groups: Groups, whole: Path, tmp_path: Path
) -> None:
    """One of them is killed again and again; each killing starts it anew."""
    rng, log, done, struck = random.Random(processes), tmp_path / "log", 0, 0
    while struck < kills:
        store = Store(tmp_path / f"store{done}")

        def action(stop: Callable[[], bool], store: Store = store) -> bool:
            harness.log_finishes(log)
            while not harness.finished(store, groups):
                for group in groups:
                    if not harness.train(store, (group,), stop):
                        return False
                    while not harness.finished(store, (group,)) and not all_held(store, group):
                        harness.train(store, (group,), stop)
                    wait_for(store, group)
            return True

        others = [harness.fork(action) for _ in range(processes - 1)]
        while not harness.finished(store, groups):
            victim = harness.fork(action)
            time.sleep(rng.uniform(0.1, 1.0))
            os.kill(victim, signal.SIGKILL)
            struck += harness.ended(victim) == -signal.SIGKILL
        assert [harness.ended(child) for child in others] == [0] * len(others)
        assert harness.contents(store.root) == harness.contents(whole)
        lines = [line.split()[1] for line in log.read_text().splitlines()]
        assert len(lines) == len(set(lines)) or _only_killed_twice(log), lines
        log.unlink()
        done += 1
    print(f"\n{processes} processes, {struck} kills over {done} stores: every run done once")


def all_held(store: Store, group: list[Run]) -> bool:
    """Whether somebody is at work on everything that is left."""
    return all(store.folder(run).held() for run in group if store.folder(run).state != "done")


def wait_for(store: Store, group: list[Run]) -> None:
    """Until all is done or something has been let go of."""
    while not harness.finished(store, (group,)) and all_held(store, group):
        time.sleep(0.02)


def _only_killed_twice(log: Path) -> bool:
    """A run stands twice only where its first process was killed while it wrote the result."""
    seen: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        process, run = line.split()
        seen.setdefault(run, []).append(process)
    return all(len(set(of)) == len(of) for of in seen.values())


def test_a_full_disk_at_every_operation_of_a_save(
    groups: Groups, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space at the n-th operation, for one n after another: one sentence, then it goes on."""
    teacher, students = groups
    run = next(r for r in students if r.config["method"]["name"] == "crd")
    store = Store(tmp_path / "store")
    harness.train(store, (teacher,), lambda: False)
    struck, at = 0, 0
    while store.folder(run).state != "done":
        at += 1
        operations = harness.Operations(store.root, at, harness.no_space)
        with monkeypatch.context() as patch:
            operations.install(lambda *what: patch.setattr(*what))
            try:
                # a stop after the first steps: every round saves, and few steps are taken
                steps = iter(range(1000))
                harness.train(store, ([run],), lambda: next(steps) >= 2)  # noqa: B023
            except StorageError as error:
                struck += 1
                assert "No space left" in str(error) and "--results" in str(error)
        folder = store.folder(run)
        assert folder.state in ("begun", "done", "missing")
        left = [f for f in verify(store)[1] if "half-written" not in f.reason and f.path.exists()]
        assert left == [], at
    assert struck >= 12  # more than one save's operations
    harness.train(store, ([run],), lambda: False)  # there is room again: what is left goes
    want, have = harness.contents(whole), harness.contents(store.root)
    for name in have:
        assert have[name] == want[name], name
