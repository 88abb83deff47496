"""Which packing is chosen, when nothing is measured, and one real measurement."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wcordbench.executors import packing
from wcordbench.executors.local import LocalExecutor
from wcordbench.suite import expand, load_suite
from wcordbench.suite.plan import Job, cohorts


def jobs(suite: str, *overrides: str) -> list[Job]:
    cells = expand(load_suite(Path("suites") / suite, list(overrides)))
    return cohorts(dict.fromkeys(c.run for c in cells))


def rates(speeds: dict[tuple[int, int], float | None]) -> Callable[..., Any]:
    @contextlib.contextmanager
    def measuring(run: Any, device: str, most: int) -> Iterator[packing.Rate]:
        assert most == max(w for w, _ in speeds)
        yield lambda workers, threads: speeds[workers, threads]

    return measuring


@pytest.mark.parametrize(
    ("cores", "speeds", "want"),
    [
        (2, {(2, 1): 2.0, (1, 2): 1.5}, 2),
        (2, {(2, 1): 2.0, (1, 2): 2.5}, 1),
        (2, {(2, 1): 2.0, (1, 2): 2.05}, 2),  # not worth leaving the usual way for
        (8, {(3, 2): 2.0, (1, 8): 4.0}, 1),  # three jobs
    ],
)
def test_the_fastest_way_is_chosen(cores: int, speeds: dict[Any, Any], want: int) -> None:
    todo = jobs("cifar100_cpu.yaml", "train.epochs=100")[-3:]
    found = packing.choose(todo, "cpu", cores, rates(speeds))
    assert found is not None and found.side_by_side == want
    assert "\n" not in found.line and "--workers" in found.line
    assert all(f"{speed:.2f}" in found.line for speed in speeds.values())


def test_jobs_share_a_gpu_where_they_fit() -> None:
    todo = jobs("cifar100_cpu.yaml")
    fit = packing.choose(todo, "cuda:0", 2, rates({(1, 2): 1.0, (2, 1): 1.8, (4, 1): 2.5}))
    assert fit is not None and fit.side_by_side == 4
    tight = packing.choose(todo, "cuda:0", 2, rates({(1, 2): 1.0, (2, 1): 1.8, (4, 1): None}))
    assert tight is not None and tight.side_by_side == 2
    none = packing.choose(todo, "cuda:0", 2, rates({(1, 2): None, (2, 1): None, (4, 1): None}))
    assert none is None


def test_several_gpus_share_the_cores_and_the_jobs() -> None:
    todo = jobs("cifar100_cpu.yaml", "seeds=[0, 1]")
    speeds = {(1, 8): 1.0, (2, 4): 1.8}
    assert len(todo) == 5  # at most three on one of two
    found = packing.choose(todo, "cuda:0", 16, rates(speeds), devices=2)
    assert found is not None and found.side_by_side == 2


def test_nothing_is_measured_for_little() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("measured")

    assert packing.choose(jobs("digits.yaml"), "cpu", 2, never) is None
    long = jobs("cifar100_cpu.yaml")
    assert packing.choose(long, "cpu", 1, never) is None
    assert packing.choose(long[:1], "cuda:0", 16, never) is None
    assert packing.choose([], "cpu", 2, never) is None


@pytest.mark.parametrize("error", [OSError, EOFError, TimeoutError])
def test_a_failed_measurement_leaves_the_usual_way(error: type[Exception]) -> None:
    @contextlib.contextmanager
    def broken(*_: Any) -> Iterator[packing.Rate]:
        raise error
        yield

    assert packing.choose(jobs("cifar100_cpu.yaml"), "cpu", 2, broken) is None


@pytest.mark.parametrize(
    ("device", "given", "want"),
    [
        ("cpu", {}, {"workers": 1}),
        ("cuda:0", {}, {"per_gpu": 1}),
        ("cuda:0", {"threads": 3}, {"threads": 3, "per_gpu": 1}),
        ("cpu", {"workers": 2}, {"workers": 2}),
        ("cpu", {"threads": 2}, {"threads": 2}),
        ("cuda:0", {"per_gpu": 2}, {"per_gpu": 2}),
    ],
)
def test_what_the_user_fixes_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    given: dict[str, int],
    want: dict[str, int],
) -> None:
    monkeypatch.setattr(packing, "choose", lambda *_, **__: packing.Packing(1, "packing: measured"))
    told: list[Any] = []
    monkeypatch.setattr("wcordbench.executors.local.available", lambda _: [device])
    executor = LocalExecutor(Path("r"), Path("d"), **given)  # type: ignore[arg-type]
    packed = executor.packed([], told.append)
    assert packed == dataclasses.replace(executor, **want)
    assert told == ([] if want == given else [{"kind": "note", "line": "packing: measured"}])


def test_a_real_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "WORTHWHILE", 0.0)
    found = packing.choose(jobs("digits.yaml"), "cpu", 2)
    assert found is not None and found.side_by_side in (1, 2)
    assert "2×1 thread:" in found.line and "1×2 threads:" in found.line
