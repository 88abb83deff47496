"""Training the runs of a cohort together: one draw of each batch, one teacher pass for all."""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wcordbench import models
from wcordbench.data import base as data
from wcordbench.data.batches import TestBatches, dataset_batches
from wcordbench.errors import UserError
from wcordbench.methods.base import Features, Setup
from wcordbench.results.provenance import environment
from wcordbench.results.store import RunBusy, RunFolder, Store, file_sha256
from wcordbench.suite.runs import Run
from wcordbench.training.learner import Diverged, Learner
from wcordbench.training.objective import undefined

Report = Callable[[dict[str, Any]], None]


class Stopped(Exception):
    """A stop was asked for; every run's checkpoint has been written."""


@dataclass
class Cohort:
    """Runs that share a dataset, a teacher, a seed and the shape of the schedule.

    Args:
        runs: what to train.
        store: where results go.
        data_root: the folder that holds datasets.
        device: where to train.
        report: called with one dictionary an event, from the training process.
        should_stop: asked after every step; when true all runs are checkpointed.
        checkpoint_minutes: how often to write checkpoints within an epoch.
    """

    runs: list[Run]
    store: Store
    data_root: Path
    device: torch.device
    report: Report = lambda event: None
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_minutes: float = 10.0
    learners: list[Learner] = field(default_factory=list, init=False)

    def train(self) -> None:
        """Train every run that is not done and not held by another process.

        Raises:
            Stopped: ``should_stop`` said so.
            UserError: the data or the teacher cannot be read.
        """
        leases = []
        try:
            todo = []
            for run in self.runs:
                folder = self.store.folder(run)
                if folder.state in ("done", "undefined", "failed"):
                    continue
                folder.begin(run)
                lease = folder.lease()
                try:
                    lease.__enter__()
                except RunBusy:
                    self.report({"kind": "busy", "run": run.name})
                    continue
                leases.append(lease)
                if folder.state == "begun":  # not finished while we waited
                    todo.append((run, folder))
            if todo:
                self._train(todo)
        finally:
            for lease in leases:
                lease.__exit__(None, None, None)

    def _train(self, todo: list[tuple[Run, RunFolder]]) -> None:
        config = todo[0][0].config
        self.dataset = data.load(config["dataset"], self.data_root)
        self.batches = dataset_batches(config, self.dataset.train, self.device)
        self.test = TestBatches(
            self.dataset.test, config["dataset"]["mean"], config["dataset"]["std"], self.device
        )
        self.started = time.time()
        self.environment = environment(self.device)  # now: the tree may change while we train
        teacher = self._teacher([run for run, _ in todo])
        for run, folder in todo:
            self._guard(run, folder, lambda run=run, folder=folder: self._add(run, folder))
        checkpointed = time.monotonic()
        self.pace = Pace()
        while active := [x for x in self.learners if not x.finished]:
            epoch, step = min((x.epoch, x.step) for x in active)
            for learner in active:
                learner.start_epoch()
            for images, batch in self.batches.epoch(epoch, step):
                members = [x for x in active if (x.epoch, x.step) == (epoch, step)]
                features = None
                if teacher is not None and any(x.needs_teacher for x in members):
                    with torch.no_grad():
                        features = self._see(teacher, images, members[0])
                for learner in members:
                    if not self._guard(
                        learner.run,
                        learner.folder,
                        lambda learner=learner: learner.train_step(images, features, batch),
                    ):
                        active.remove(learner)
                step += 1
                self.pace.count(len(batch.labels) * len(members))
                self._report_step(members, epoch, step)
                if self.should_stop():
                    self._save(active)
                    raise Stopped
                if time.monotonic() - checkpointed > 60 * self.checkpoint_minutes:
                    self._save(active)
                    checkpointed = time.monotonic()
                if not active:
                    break
            ended = [x for x in active if (x.epoch, x.step) == (epoch, len(self.batches))]
            for learner in ended:
                self._guard(
                    learner.run, learner.folder, lambda learner=learner: self._end_epoch(learner)
                )
            checkpointed = time.monotonic()

    def _see(self, teacher: nn.Module, images: torch.Tensor, member: Learner) -> Features:
        bf16 = member.protocol["precision"] == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            features: Features = teacher(images)
        return features

    def _guard(self, run: Run, folder: RunFolder, action: Callable[[], None]) -> bool:
        """Do something for one run; if that fails, the run leaves and the others go on."""
        try:
            action()
        except UserError:
            raise  # the disk or the data: no run can go on
        except Diverged as error:
            kind, reason = "diverged", str(error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            kind, reason = "memory", f"out of memory: {str(error).splitlines()[0]}"
        except Exception as error:
            kind, reason = "error", f"{type(error).__name__}: {str(error).splitlines()[0:1]}"
        else:
            return True
        folder.fail(kind, reason, traceback.format_exc())
        self.learners = [x for x in self.learners if x.run != run]
        self.report({"kind": "failed", "run": run.name, "reason": reason})
        return False

    def _teacher(self, runs: list[Run]) -> nn.Module | None:
        self.teacher_sha256: str | None = None
        taught = [run for run in runs if run.config["teacher"] is not None]
        if not taught:
            return None
        run = taught[0]
        pixels = self.dataset.train.pixels
        model = models.create(
            run.config["teacher"]["model"],
            len(self.dataset.classes),
            pixels.shape[1],
            pixels.shape[3],
        )
        if run.teacher is not None:
            folder = self.store.folder(run.teacher)
            path = folder.path / "student.pt"
            expected = folder.result()["weights_sha256"]
            if not path.is_file():
                raise UserError(
                    f"{path}, the teacher's weights, is missing; delete {folder.path} to train"
                    " the teacher again"
                )
            if file_sha256(path) != expected:
                raise UserError(
                    f"{path} is not the file that its result records (its SHA-256 differs);"
                    f" delete {folder.path} to train the teacher again"
                )
        else:
            assert run.checkpoint is not None
            path = Path(run.checkpoint)
        models.load_checkpoint(model, path)
        self.teacher_sha256 = file_sha256(path)
        model.requires_grad_(False)
        return model.eval().to(self.device, memory_format=torch.channels_last)

    def _add(self, run: Run, folder: RunFolder) -> None:
        pixels = self.dataset.train.pixels
        size, channels, classes = pixels.shape[1], pixels.shape[3], len(self.dataset.classes)
        setup = None
        if run.config["teacher"] is not None:
            setup = Setup(
                models.feature_shapes(run.config["model"], classes, size, channels),
                models.feature_shapes(run.config["teacher"]["model"], classes, size, channels),
                classes,
                self.batches.labels,
            )
            reason = undefined(run.config["method"], setup)
            if reason:
                folder.fail("undefined", reason)
                self.report({"kind": "undefined", "run": run.name, "reason": reason})
                return
        learner = Learner(
            run, folder, setup, size, channels, classes, len(self.batches), self.device
        )
        if learner.resume():
            self.report({"kind": "resumed", "run": run.name, "epoch": learner.epoch})
        self.learners.append(learner)
        if learner.finished:  # stopped between the last checkpoint and the result
            self._finish(learner)

    def _report_step(self, members: list[Learner], epoch: int, step: int) -> None:
        if self.pace.due() and members:
            self.report(
                {
                    "kind": "step",
                    "runs": [x.run.name for x in members],
                    "epoch": epoch,
                    "step": step,
                    "steps": len(self.batches),
                    "epochs": members[0].protocol["epochs"],
                    "first_epochs": max(x.first_epochs for x in members),
                    "images_per_second": self.pace.rate(),
                }
            )

    def _end_epoch(self, learner: Learner) -> None:
        record = learner.end_epoch(self.test)
        self.report(
            {
                "kind": "epoch",
                "run": learner.run.name,
                "epochs": learner.protocol["epochs"],
                **record,
            }
        )
        if learner.finished:
            self._finish(learner)
        else:
            learner.save()

    def _save(self, learners: list[Learner]) -> None:
        for learner in learners:
            if not learner.finished:
                learner.save()

    def _finish(self, learner: Learner) -> None:
        metrics = learner.metrics
        weights = io.BytesIO()
        torch.save({"model": learner.student.state_dict()}, weights)
        folder = learner.folder
        folder.write_bytes("student.pt", weights.getvalue())
        folder.write_metrics(metrics)
        tests = [m for m in metrics if "test_top1" in m]
        folder.finish(
            {
                "id": learner.run.id,
                "config": learner.run.config,
                "scores": {
                    "top1": tests[-1]["test_top1"],
                    "top5": tests[-1]["test_top5"],
                    "best_top1": max(m["test_top1"] for m in tests),
                },
                "weights_sha256": file_sha256(folder.path / "student.pt"),
                "metrics_sha256": file_sha256(folder.path / "metrics.json"),
                "teacher_sha256": self.teacher_sha256 if learner.needs_teacher else None,
                "dataset_fingerprint": self.dataset.fingerprint(),
                "seconds": round(sum(m["seconds"] for m in metrics), 3),
                "cohort": len(self.runs),
                "environment": self.environment,
                "started": self.started,
                "ended": time.time(),
            }
        )
        self.report({"kind": "done", "run": learner.run.name, "top1": tests[-1]["test_top1"]})


class Pace:
    """Images per second, and when the next progress report is due."""

    def __init__(self, every: float = 0.5) -> None:
        self.every = every
        self.images, self.since = 0, time.monotonic()
        self.reported = self.since

    def count(self, images: int) -> None:
        self.images += images

    def due(self) -> bool:
        return time.monotonic() - self.reported >= self.every

    def rate(self) -> float:
        now = time.monotonic()
        rate = self.images / max(now - self.since, 1e-9)
        self.reported = now
        if now - self.since > 30:
            self.images, self.since = 0, now
        return rate
