"""Costs of runs from measured parts; the measuring itself on tiny real runs, no time asserted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wcordbench.data import base as data
from wcordbench.data.memory import allowing
from wcordbench.errors import UserError
from wcordbench.methods.base import Features
from wcordbench.suite import Run, load_suite
from wcordbench.suite.runs import expand
from wcordbench.training import calibrate as module
from wcordbench.training.calibrate import Calibration, calibrate
from wcordbench.training.probe import Bench, leaves

SUITE = """
name: tiny
dataset: {name: digits, mean: [0.3], std: [0.4]}
train:
  epochs: 10
  batch_size: 64
  learning_rate: 0.1
  schedule: {type: step, milestones: [5]}
  first_stage: {epochs: 3, learning_rate: 0.1}
seeds: [0, 1]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student, kd, crd+kd, ab]
"""


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return list(dict.fromkeys(c.run for c in expand(load_suite(path))))


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """In these tests datasets are what they are."""
    torch.set_num_threads(1)
    yield
    module._datasets.clear()


def by_method(runs: list[Run], name: str) -> Run:
    return next(r for r in runs if r.config["method"]["name"] == name)


def test_every_network_and_pair_is_measured_once(runs: list[Run]) -> None:
    probes = list(module._probes(runs))
    assert [p.of_pair for p in probes] == [True, False, False]
    assert [t["name"] for t in probes[0].terms or []] == ["kd", "crd", "ab"]
    assert probes[0].config["method"]["name"] == "ab"  # the one with a first stage
    assert {p.config["model"] for p in probes[1:]} == {"resnet14", "resnet8"}
    assert all(p.config["teacher"] is None for p in probes[1:])
    assert list(module._probes([])) == []


def test_costs_add_up_from_their_parts(runs: list[Run]) -> None:
    network = {
        "draw": 0.1, "step": 2.0, "evaluate": 5.0, "steps": 20.0, "start": 7.0, "weights": 100.0,
        "checkpoint": 200.0,
    }  # fmt: skip
    pair = {"seen": 1.0}
    for name, extra, first, size in (("kd", 0.5, 0, 0), ("crd", 3, 0, 50), ("ab", 0.2, 4, 10)):
        term = next(t for r in runs for t in r.config["method"]["terms"] if t["name"] == name)
        key = module.term_key(term)
        pair |= {"extra " + key: extra, "first " + key: first, "bytes " + key: size}
    networks = {module._network(r.config): network for r in runs}
    pairs = {module._pair(r.config): pair for r in runs if r.config["teacher"]}
    measured = Calibration(networks, pairs, True, 0, 0.0)
    plain, both, ab = (by_method(runs[1:], n) for n in ("student", "crd+kd", "ab"))
    cost = measured.cost(plain)
    assert (cost.own, cost.shared) == pytest.approx((10 * (20 * 2 + 5), 7 + 10 * 20 * 0.1))
    cost = measured.cost(both)
    assert (cost.own, cost.shared) == pytest.approx((10 * (20 * 5.5 + 5), 7 + 10 * 20 * 1.1))
    cost = measured.cost(ab)
    assert (cost.own, cost.shared) == pytest.approx(
        (10 * (20 * 2.2 + 5) + 3 * 20 * 4, 7 + 13 * 20 * 1.1)
    )
    assert measured.sizes(plain) == (100, 200) and measured.sizes(both) == (100, 250)


def bench(run: Run, steps: int = 1) -> Bench:
    dataset = data.load(run.config["dataset"], Path())
    return Bench(run.config, dataset, torch.device("cpu"), steps, time.perf_counter)


def test_a_network_is_measured(runs: list[Run]) -> None:
    before = torch.random.get_rng_state()
    found = bench(by_method(runs, "student")).network()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found["steps"] == -(-1438 // 64)
    assert all(found[key] > 0 for key in ("draw", "step", "evaluate"))
    assert 1.5 * found["weights"] < found["checkpoint"] <= 2 * found["weights"]


def test_a_pair_is_measured(runs: list[Run]) -> None:
    (pair, *_) = module._probes(runs)
    assert pair.terms is not None
    found = bench(by_method(runs, "ab")).pair(pair.terms)
    keys = {t["name"]: module.term_key(t) for t in pair.terms}
    assert found["seen"] > 0 and all(found["extra " + key] > 0 for key in keys.values())
    assert found["first " + keys["ab"]] > 0 == found["first " + keys["kd"]]
    assert found["bytes " + keys["kd"]] == 0
    assert found["bytes " + keys["crd"]] > 2 * 1438 * 128 * 4  # its memory banks


def test_without_steps_only_sizes_are_measured(runs: list[Run]) -> None:
    silent = bench(by_method(runs, "ab"), 0)
    found = silent.network()
    assert found["step"] == found["evaluate"] == 0 < found["weights"]
    assert silent.seconds(lambda: pytest.fail("called")) == 0


def test_quick_parts_are_repeated_and_the_first_does_not_count(runs: list[Run]) -> None:
    now = 0.0
    lasts = iter([100.0, 0.02, 0.04, 0.06, 0.08, 1.0])

    def clock() -> float:
        return now

    def action() -> None:
        nonlocal now
        now += next(lasts)

    timed = bench(runs[0], 2)
    timed.clock = clock
    assert timed.seconds(action) == pytest.approx(0.05)  # 0.2 seconds after four


def test_processes_measure_side_by_side(runs: list[Run], tmp_path: Path) -> None:
    told: list[str] = []
    measured = calibrate(runs, tmp_path, ["cpu"], 2, 1, 1, told.append)
    assert measured.real_images and measured.dataset_bytes == 1797 * 64
    assert all(measured.cost(run).own > 0 < measured.cost(run).shared for run in runs)
    assert told[-1] == "calibrating: 3 of 3"
    assert list(tmp_path.glob("*")) == [tmp_path / "tiny.yaml"]  # nothing is written


def test_random_images_stand_in_for_a_dataset_that_is_not_there(tmp_path: Path) -> None:
    config = {"name": "cifar100", "size": 8, "options": {}, "mean": [0.5] * 3, "std": [0.2] * 3}
    run = {"dataset": config, "train": {"augment": {}}}
    dataset, real = module._dataset(run, tmp_path)
    assert not real and dataset.train.pixels.shape == (50000, 8, 8, 3)
    assert dataset.test.pixels.shape == (10000, 8, 8, 3) and len(dataset.classes) == 100
    assert not any(tmp_path.iterdir())  # nothing was downloaded


def test_a_dataset_of_unknown_shape_must_be_there(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "name": "imagefolder", "size": None, "options": {"folder": "none"}, "mean": [0.5] * 3,
    }  # fmt: skip
    with pytest.raises(UserError, match="does not exist"):
        module._dataset({"dataset": config, "train": {"augment": {}}}, tmp_path)


@pytest.mark.parametrize("memory", ["auto", "1e-9"])
def test_images_are_where_training_has_them(memory: str, tmp_path: Path) -> None:
    """In memory or streamed, which costs another time."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("rye", "wheat"):
            (tmp_path / "grains" / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "grains" / split / name / f"{i}.png")
    folder = "{name: imagefolder, options: {folder: grains, image_size: 8}, cache: 8"
    means = "mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2]}"
    digits = "{name: digits, mean: [0.3], std: [0.4]}"
    (tmp_path / "grain.yaml").write_text(SUITE.replace(digits, f"{folder}, {means}"))
    cells = expand(load_suite(tmp_path / "grain.yaml", [f"dataset.memory={memory}"]))
    for probe in module._probes(c.run for c in cells):
        dataset, real = module._dataset(probe.config, tmp_path, probe.memory, probe.keep)
        with allowing(cells[0].run.memory, cells[0].run.keep):
            trained = data.load(probe.config["dataset"], tmp_path)
        assert real and dataset.streamed == trained.streamed == (memory != "auto")
        assert type(dataset.train) is type(trained.train)
        if dataset.streamed:
            assert probe.keep and dataset.train.reading == trained.train.reading


def test_an_error_in_a_process_is_the_users(runs: list[Run], tmp_path: Path) -> None:
    lost = json.loads(json.dumps(runs[0].config))
    lost["dataset"] |= {"name": "imagefolder", "options": {"folder": "none"}}
    with pytest.raises(UserError, match="does not exist"):
        calibrate([Run(lost)], tmp_path, ["cpu"], 1, 1, 1)


def test_leaves_are_inputs_of_their_own() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    made = leaves(Features(x * 1, (x * 2,), (x * 3,), x * 4, x * 5))
    made.logits.sum().backward()
    assert made.logits.is_leaf and made.stages[0].requires_grad and x.grad is None


def test_random_images_are_as_many_as_a_holdout_leaves() -> None:
    config: dict[str, Any] = {
        "name": "cifar100", "size": 4, "mean": [0.5] * 3, "std": [0.5] * 3, "options": {},
    }  # fmt: skip
    for holdout, sizes in ((None, (50_000, 10_000)), (5000, (45_000, 5000))):
        made = module._random_dataset(config if holdout is None else {**config, "holdout": holdout})
        assert made is not None and (len(made.train), len(made.test)) == sizes
