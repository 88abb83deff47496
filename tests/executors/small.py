"""A suite of seconds on real digits, and its runs compared with those trained in this process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wcordbench.executors.base import Executor
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.plan import cohorts
from wcordbench.training.again import differences
from wcordbench.training.cohort import Cohort

SUITE = """
name: small
dataset: {name: digits, mean: [0.3], std: [0.4]}
train:
  epochs: EPOCHS
  batch_size: 128
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 1, flip: false}
seeds: [0]
pairs: [{teacher: {model: resnet8, train: {epochs: 1}}, student: resnet8}]
methods: [kd, {name: crd, negatives: 64, feature_dim: 16}]
"""

Events = list[dict[str, Any]]


class Small:
    """The suite's runs and a store of each way to train them.

    Attributes:
        runs: the teacher, then the students.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder = folder
        self.suite = folder / "small.yaml"
        self.suite.write_text(SUITE.replace("EPOCHS", str(epochs)))
        self.runs: list[Run] = list(dict.fromkeys(c.run for c in expand(load_suite(self.suite))))
        self.local = Store(folder / "local")

    def store(self, name: str) -> Store:
        return Store(self.folder / name)

    def train_locally(self) -> None:
        """Train all in this process, with one thread."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for run in self.runs:
                Cohort([run], self.local, self.folder, torch.device("cpu")).train()
        finally:
            torch.set_num_threads(threads)

    def train(
        self, executor: Executor, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> Events:
        """Train all that is not done; what was said is in ``events`` even after an error."""
        self.events: Events = []

        def report(event: dict[str, Any]) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        executor.run(cohorts(self.runs), report)
        return self.events

    def check(self, store: Store, events: Events) -> None:
        """Everything is done, said so once, free, and has the bits of the local training."""
        done = [e["run"] for e in events if e["kind"] == "done"]
        assert sorted(done) == sorted(r.name for r in self.runs), events
        order = [n for e in events if e["kind"] == "job" for n in e["runs"]]
        assert order[0] == self.runs[0].name
        for run in self.runs:
            folder = store.folder(run)
            assert folder.state == "done" and not folder.held()
            assert not (folder.path / "checkpoint.pt").exists()
            assert differences(self.local.folder(run), folder) == []
        left = {p.name for p in store.root.iterdir()} - {"runs"}
        assert not left, left


def interrupt_at(kind: str, count: int = 1) -> Callable[[dict[str, Any]], None]:
    """Sends this process SIGINT at the n-th event of a kind."""
    seen = 0

    def on_event(event: dict[str, Any]) -> None:
        nonlocal seen
        seen += event["kind"] == kind
        if event["kind"] == kind and seen == count:
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    return on_event
