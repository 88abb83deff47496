"""The parts of a run's training, timed one by one."""

from __future__ import annotations

import copy
import itertools
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcordbench import models, registry
from wcordbench.data.base import Dataset
from wcordbench.data.batches import TestBatches, dataset_batches
from wcordbench.data.views import View
from wcordbench.methods.base import Features, SecondView, Setup
from wcordbench.models.fold import placed
from wcordbench.results.store import RunFolder
from wcordbench.suite.runs import Run
from wcordbench.training.draws import seeded
from wcordbench.training.evaluation import evaluate
from wcordbench.training.learner import Learner
from wcordbench.training.objective import Objective, setup_of
from wcordbench.training.precision import autocast

#: quick steps are repeated until so many seconds have been measured
ENOUGH = 0.2


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """The plain training of a run's network."""
    method = {"name": "student", "gamma": 1.0, "terms": []}
    return {**config, "teacher": None, "method": method}


def term_key(term: dict[str, Any]) -> str:
    """Equal for terms that take as long."""
    return json.dumps([term["name"], term["options"]], sort_keys=True)


class Bench:
    """Times the parts of a run's training.

    Args:
        config: of the run.
        dataset: what it trains on.
        device: where.
        steps: calls timed of each part, after one to warm up; 0 for none.
        clock: gives seconds.
    """

    def __init__(
        self,
        config: dict[str, Any],
        dataset: Dataset,
        device: torch.device,
        steps: int,
        clock: Callable[[], float],
    ) -> None:
        self.config, self.dataset, self.device = config, dataset, device
        self.steps, self.clock = steps, clock
        self.batches = dataset_batches(config, dataset.train, device, config["teacher"])
        self.channels, self.classes = dataset.train.shape[3], len(dataset.classes)
        self.images, self.privileged, self.batch = next(self.batches.pairs(0))

    def seconds(self, action: Callable[[], object]) -> float:
        """The median of a few calls after a first one; 0 where no times are wanted."""
        if not self.steps:
            return 0.0
        times: list[float] = []
        while len(times) <= self.steps or (sum(times[1:]) < ENOUGH and len(times) < 50):
            self._wait()
            before = self.clock()
            action()
            self._wait()
            times.append(self.clock() - before)
        return statistics.median(times[1:])

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def network(self) -> dict[str, float]:
        """Of the plain training of the run's network."""
        learner = self._learner(plain(self.config), None)
        endless = itertools.chain.from_iterable(map(self.batches.pairs, itertools.count()))
        split, dataset = self.dataset.test, self.config["dataset"]
        mean, std = dataset["mean"], dataset["std"]
        view = View(self.config.get("view"), split.shape[1], mean, std, self.device)
        found = {
            "draw": self.seconds(lambda: next(endless)),
            "step": self.seconds(lambda: learner.train_step(self.images, None, self.batch)),
        }
        # A few images stand for all: a whole batch of an evaluation would take as long as steps.
        count = len(self.batch.labels)
        few = TestBatches(
            split.take(np.arange(min(count, len(split)))), mean, std, self.device, view
        )
        share = len(split.labels) / len(few.labels)
        weights = _bytes(learner.student.state_dict().values())
        return {
            **found,
            "evaluate": share
            * self.seconds(lambda: evaluate(learner.student, few, learner.precision, self.device)),
            "steps": float(len(self.batches)),
            "weights": weights,
            # weights, gradients' momentum
            "checkpoint": weights + _bytes(learner.student.parameters()),
        }

    def pair(self, terms: list[dict[str, Any]]) -> dict[str, float]:
        """Of a teacher, and of the methods' terms between the two networks' features."""
        teacher = self._teacher()
        seen = self.batches.teacher.size
        setup = setup_of(
            self.config, self.classes, (self.batches.student.size, seen), self.channels,
            self.batches.labels, self.device, teacher,
        )  # fmt: skip
        learner = self._learner(plain(self.config), None)
        setup = setup._replace(student_classifier=models.classifier_of(learner.student))
        known: list[Features] = []

        @torch.no_grad()
        def see() -> None:
            with autocast(learner.precision, self.device):
                known[:] = [teacher(self.privileged())]

        see()
        found = {"seen": self.seconds(see)}
        with torch.no_grad(), autocast(learner.precision, self.device):
            shown: Features = learner.student(self.images)
        for term in terms:
            found |= self._term(term, setup, shown, known[0], learner.precision)
            if registry.get("method", term["name"]).load().second_view:
                again = self.seconds(lambda: learner.train_step(self.images, None, self.batch))
                found["extra " + term_key(term)] += again + found["seen"]
        return found

    def _term(
        self, term: dict[str, Any], setup: Setup, shown: Features, known: Features, precision: str
    ) -> dict[str, float]:
        key = term_key(term)
        with seeded(0):
            objective = Objective({"gamma": 0.0, "terms": [term]}, setup).to(self.device)
        objective.manual_seed(0)
        own = list(objective.parameters())
        optimizer = torch.optim.SGD(own, 1e-9, 0.9, fused=True) if own else None
        inputs, batch = leaves(shown), self.batch
        if objective.second_view:
            batch = batch._replace(second=SecondView(leaves(shown), known))

        def extra() -> None:
            for parameter in own:
                parameter.grad = None
            with autocast(precision, self.device):
                loss = objective(inputs, known, batch)
            loss.backward()
            if optimizer is not None:
                optimizer.step()

        found = {"extra " + key: self.seconds(extra), "first " + key: 0.0}
        if any(method.first_stage for method in objective.methods) and self.steps:
            config = copy.copy(self.config)
            config["method"] = {"name": term["name"], "gamma": 1.0, "terms": [term]}
            learner = self._learner(config, setup)
            found["first " + key] = self.seconds(
                lambda: learner.train_step(self.images, known, self.batch)
            )
        found["bytes " + key] = _bytes([*own, *own, *objective.buffers()])
        return found

    def _learner(self, config: dict[str, Any], setup: Setup | None) -> Learner:
        learner = Learner(
            Run(config), RunFolder(Path("unwritten")), setup, self.batches.student.size,
            self.channels, self.classes, len(self.batches), self.device,
        )  # fmt: skip
        learner.start_epoch()
        return learner

    def _teacher(self) -> torch.nn.Module:
        with seeded(0):
            teacher = models.create(
                self.config["teacher"]["model"], self.classes, self.batches.teacher.size,
                self.channels,
            )  # fmt: skip
        teacher = teacher.requires_grad_(False).to(self.device)
        teacher = teacher.to(memory_format=torch.channels_last)
        # Batch norms that have seen images: else deep features grow beyond any teacher's.
        for module in teacher.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            teacher.train()(self.privileged())
        return placed(teacher.eval().cpu(), self.batches.teacher.size, self.channels, self.device)


def leaves(features: Features) -> Features:
    """The same values as inputs that want a gradient."""

    def leaf(x: Tensor) -> Tensor:
        return x.detach().requires_grad_()

    return Features(
        leaf(features.stem),
        tuple(map(leaf, features.stages)),
        tuple(map(leaf, features.stages_preact)),
        leaf(features.pooled),
        leaf(features.logits),
        None if features.last_map is None else leaf(features.last_map),
    )


def _bytes(tensors: Iterable[Any]) -> float:
    return float(sum(x.nbytes for x in tensors if isinstance(x, Tensor)))
