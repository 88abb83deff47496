"""Training the runs of a cohort together: one draw of each batch, one teacher pass for all."""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.data import base as data
from wcordbench.data.base import described
from wcordbench.data.batches import Sight, TestBatches, dataset_batches
from wcordbench.data.memory import allowing
from wcordbench.data.views import View
from wcordbench.errors import UserError
from wcordbench.methods.base import Features
from wcordbench.models.fold import placed
from wcordbench.results.provenance import device_of_host, environment
from wcordbench.results.store import RunBusyError, RunFolder, StorageError, Store, file_sha256
from wcordbench.suite.code import changed
from wcordbench.suite.runs import Run
from wcordbench.suite.transforms import cuts_whole
from wcordbench.training.compiling import check_compile
from wcordbench.training.draws import seeded
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.failures import kind_of, sentence
from wcordbench.training.last_batch import check_last_batch
from wcordbench.training.learner import DivergedError, Learner
from wcordbench.training.metrics import check_auc
from wcordbench.training.mistakes import Given
from wcordbench.training.objective import setup_of, undefined
from wcordbench.training.pace import Pace
from wcordbench.training.passes import Passes
from wcordbench.training.precision import autocast, resolve
from wcordbench.training.prediction import contents
from wcordbench.training.teacher import measure_teacher, weights_of_teacher
from wcordbench.training.weights import begin_pretrained, checked_sha256

#: of an epoch's measurements, where they were made
OPTIONAL_SCORES = ("auc", "ema_top1", "ema_top5")

Report = Callable[[dict[str, Any]], None]


@dataclass
class Cohort:
    """Runs that share a dataset, a teacher, a seed and the shape of the schedule.

    Args:
        runs: what to train.
        store: where results go.
        data_root: the folder that holds datasets.
        device: where to train.
        report: called with one dictionary an event, from the training process.
        should_stop: asked after every step of a run and between batches of an evaluation;
            when true all runs are checkpointed.
        checkpoint_minutes: how often to write checkpoints within an epoch.
        compile: ``off``, or a mode of torch.compile, see :meth:`Learner.compile`.
    """

    runs: list[Run]
    store: Store
    data_root: Path
    device: torch.device
    report: Report = lambda event: None  # noqa: ARG005
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_minutes: float = 10.0
    compile: str = "off"
    learners: list[Learner] = field(default_factory=list, init=False)
    #: runs that have failed, or are to be tried again elsewhere
    left: set[Run] = field(default_factory=set, init=False)
    #: whether training has begun
    loaded: bool = field(default=False, init=False)

    def train(self) -> None:
        """Train every run that is not done and not held by another process.

        Raises:
            StoppedError: ``should_stop`` said so; every run's checkpoint has been written.
            UserError: the data or the teacher cannot be read, the results not written, or
                students not compiled here.
            RuntimeError: the device has failed; the runs keep their checkpoints.
        """
        for run in self.runs:
            precision = resolve(run.config["train"]["precision"], self.device)
            check_compile(self.compile, precision, self.device)
        with contextlib.ExitStack() as leases:
            todo, who = [], {"device": device_of_host(str(self.device))}
            for run in self.runs:
                folder = self.store.folder(run)
                if folder.state not in ("missing", "begun"):
                    folder.tidy()
                    continue
                try:
                    leases.enter_context(folder.lease(who=who))
                except RunBusyError:
                    self.report({"kind": "busy", "run": run.name})
                    continue
                if folder.state in ("missing", "begun"):  # not finished before the lease was ours
                    folder.begin(run)
                    todo.append((run, folder))
            if todo:
                self._train_or_fail(todo)

    def _train_or_fail(self, todo: list[tuple[Run, RunFolder]]) -> None:
        try:
            self._train(todo)
        except (UserError, StoppedError):
            raise
        except Exception as error:  # in what the runs share: the data, the teacher, the batches
            if kind_of(error) == "device":
                raise
            if self.loaded:
                with contextlib.suppress(RuntimeError, MemoryError):
                    self._save([x for x in self.learners if not x.finished])
            for run, folder in todo:
                if run not in self.left and folder.state in ("missing", "begun"):
                    self._leave(run, folder, error, own=False)

    def _train(self, todo: list[tuple[Run, RunFolder]]) -> None:
        config = todo[0][0].config
        for run, _ in todo:
            if reason := changed(run.config):
                raise UserError(f"{run.name}: {reason}")
        with (
            data.listening(lambda line: self.report({"kind": "note", "line": line})),
            allowing(todo[0][0].memory, todo[0][0].keep, self.device),
        ):
            self.dataset, self.fingerprint = data.fingerprinted(
                config["dataset"], self.data_root, cuts_whole(config["train"])
            )
        if any(run.config.get("metric") == "auc" for run, _ in todo):
            check_auc(self.dataset.test.labels, self.dataset.classes)
        source = next((r.config["teacher"] for r, _ in todo if r.config["teacher"]), None)
        classes = len(self.dataset.classes)
        self.batches = dataset_batches(config, self.dataset.train, self.device, source, classes)
        mean, std = config["dataset"]["mean"], config["dataset"]["std"]
        side = self.dataset.test.shape[1]
        # One noise for all runs, whatever their seed: they are tested on the same images.
        view = View(config.get("view"), side, mean, std, self.device)
        self.test = TestBatches(self.dataset.test, mean, std, self.device, view)
        self.started = time.time()
        self.environment = environment(self.device)  # now: the tree may change while we train
        teacher = self._teacher([run for run, _ in todo])
        for run, folder in todo:
            self._guard(run, folder, partial(self._add, run, folder, teacher))
        for learner in self.learners:
            begin_pretrained(learner, lambda line: self.report({"kind": "note", "line": line}))
        check_last_batch(
            self.learners, partial(self._last_step, teacher), len(self.dataset.train),
            config["train"]["batch_size"],
        )  # fmt: skip
        self.report({"kind": "loaded"})
        self.loaded = True
        self.pace = Pace()
        self.saved, self.save_seconds = time.monotonic(), 0.0
        try:
            while active := [x for x in self.learners if not x.finished]:
                self._epoch(teacher, active)
        except (StoppedError, UserError):  # also an image that cannot be decoded any more
            self._save([x for x in self.learners if not x.finished])
            raise

    def _epoch(self, teacher: nn.Module | None, active: list[Learner]) -> None:
        """Train the runs that are furthest behind to the end of their epoch.

        Runs that are ahead, because they resumed from later checkpoints or have no first
        stage, wait until the others have come to where they are, and join.
        """
        epoch, step = min((x.epoch, x.step) for x in active)
        for learner in active:
            learner.start_epoch()
        for images, sight, batch in self.batches.pairs(epoch, step):
            members = [x for x in active if (x.epoch, x.step) == (epoch, step)]
            features: dict[str, Features] = {}
            if teacher is not None:
                for precision in {x.precision for x in members if x.needs_teacher}:
                    features[precision] = self._see(teacher, sight(), precision)
            second = self._second(teacher, sight, members)
            given = Given(images, batch, *features.values(), *second.values())
            for learner in members:
                known = features.get(learner.precision)
                strong = second.get(learner.precision) if learner.second_view else None
                train = partial(self._step, learner, given, images, known, batch, strong)
                if not self._guard(learner.run, learner.folder, train):
                    active.remove(learner)
                    if given.changed:
                        return  # those that have not taken the step draw it anew
                # Between runs: a step of many large ones takes long. Those that have not
                # taken it are one step behind in their checkpoints, and catch up.
                if self.should_stop():
                    raise StoppedError
            step += 1
            self.pace.count(len(batch.labels) * len(members))
            self._report_step(members, epoch, step)
            if time.monotonic() - self.saved > 60 * self.checkpoint_minutes:
                self._save(active)
            if not active:
                return
        ended = [x for x in active if (x.epoch, x.step) == (epoch, len(self.batches))]
        for learner in ended:
            self._guard(learner.run, learner.folder, partial(self._end_epoch, learner))
        # Where epochs are short and memory banks large, checkpoints would take longer than
        # training: they may take about a tenth of the time.
        if time.monotonic() - self.saved > 10 * self.save_seconds:
            self._save([x for x in active if x in self.learners and not x.finished])

    def _step(self, learner: Learner, given: Given, *of: Any) -> None:
        """A training step, which leaves to the next run what is given to all."""
        learner.train_step(*of)
        given.check(learner.run.name)

    def _last_step(self, teacher: nn.Module | None, learner: Learner, epoch: int) -> None:
        """Take the last step of an epoch alone."""
        images, sight, batch = next(self.batches.pairs(epoch, len(self.batches) - 1))
        known = None
        if teacher is not None and learner.needs_teacher:
            known = self._see(teacher, sight(), learner.precision)
        second = self._second(teacher, sight, [learner])
        strong = second.get(learner.precision) if learner.second_view else None
        learner.train_step(images, known, batch, strong)

    def _second(
        self, teacher: nn.Module | None, sight: Sight, members: list[Learner]
    ) -> dict[str, tuple[Tensor, Features]]:
        """The second view and the teacher's features of it, where a run asks for them."""
        asking = {x.precision for x in members if x.second_view}
        if teacher is None or not asking:
            return {}
        images, privileged = sight.second()
        return {p: (images, self._see(teacher, privileged, p)) for p in asking}

    @torch.no_grad()
    def _see(self, teacher: nn.Module, images: Tensor, precision: str) -> Features:
        """The teacher's features in a precision."""
        with autocast(precision, self.device):
            features: Features = teacher(images)
        return features

    def _guard(self, run: Run, folder: RunFolder, action: Callable[[], object]) -> bool:
        """Do something for one run; if that fails, the run leaves and the others go on."""
        try:
            action()
            return True
        except (StorageError, StoppedError):
            raise  # these concern all runs
        except Exception as error:
            if kind_of(error) == "device":
                raise  # the process ends, and its runs go on from their checkpoints in another
            self._leave(run, folder, error)
            return False

    def _leave(self, run: Run, folder: RunFolder, error: Exception, own: bool = True) -> None:
        """Say, and unless it is to be tried again record, why a run does not go on here.

        Args:
            run, folder, error: what failed, and how.
            own: whether it failed in what is the run's own.
        """
        kind, trace = kind_of(error), ""
        if isinstance(error, UserError | DivergedError):
            reason = str(error)
        else:
            what = "out of memory" if kind == "memory" else type(error).__name__
            reason, trace = sentence(what, error), "".join(traceback.format_exception(error))
        self.left.add(run)
        self.learners = [x for x in self.learners if x.run != run]
        if kind == "memory" and len(self.runs) > 1:
            # Alone it may fit: the executor tries it again so, from its last checkpoint.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.report({"kind": "memory", "run": run.name, "reason": reason})
            return
        folder.fail(kind, reason, trace, own and kind != "memory")
        self.report({"kind": "failed", "run": run.name, "reason": reason})

    def _teacher(self, runs: list[Run]) -> nn.Module | None:
        self.teacher_sha256: str | None = None
        self.teacher_scores: dict[str, float] | None = None
        taught = [run for run in runs if run.config["teacher"] is not None]
        if not taught:
            return None
        run = taught[0]
        size, channels = self.batches.teacher.size, self.dataset.train.shape[3]
        with seeded(0):  # the weights are read below: only the global generator must not move
            model = models.create(
                run.config["teacher"]["model"], len(self.dataset.classes), size, channels
            )
        path, expected, remedy = weights_of_teacher(
            run, self.store, self.fingerprint, self.data_root
        )
        self.teacher_sha256 = checked_sha256(path, "the teacher's weights", expected, remedy)
        with data.listening(lambda line: self.report({"kind": "note", "line": line})):
            models.load_checkpoint(model, path)
        model.requires_grad_(False).eval()
        self.original = model
        model = placed(model, size, channels, self.device)
        if run.teacher is None:
            self.teacher_scores = measure_teacher(
                model, taught, self.store, self.dataset, self.fingerprint, self.device,
                lambda line: self.report({"kind": "note", "line": line}), self.should_stop,
            )  # fmt: skip
        return model

    def _add(self, run: Run, folder: RunFolder, teacher: nn.Module | None) -> None:
        size, seen = self.batches.student.size, self.batches.teacher.size
        channels, classes = self.dataset.train.shape[3], len(self.dataset.classes)
        setup = None
        if run.config["teacher"] is not None:
            setup = setup_of(
                run.config, classes, (size, seen), channels,
                torch.from_numpy(self.dataset.train.labels), self.device, self.original,
            )  # fmt: skip
            reason = undefined(run.config["method"], setup)
            if reason:
                folder.fail("undefined", reason)
                self.report({"kind": "undefined", "run": run.name, "reason": reason})
                return
        learner = Learner(
            run, folder, setup, size, channels, classes, len(self.batches), self.device,
            self.fingerprint, self.teacher_sha256 if run.config["method"]["terms"] else None,
        )  # fmt: skip
        learner.environment = {**self.environment, "compile": self.compile}
        if learner.resume():
            self.report(
                {
                    "kind": "resumed",
                    "run": run.name,
                    "epoch": learner.epoch,
                    "step": learner.step,
                    "steps": len(self.batches),
                }
            )
        elif learner.objective.prepares:
            assert teacher is not None
            learner.objective.prepare(self._passes(run, teacher))
        learner.compile(self.compile)
        self.learners.append(learner)

    def _passes(self, run: Run, teacher: nn.Module) -> Passes:
        """The teacher's features of the training images, as they are tested."""
        mean, std = run.config["dataset"]["mean"], run.config["dataset"]["std"]
        images = TestBatches(
            self.dataset.train, mean, std, self.device, self.batches.teacher, again=False
        )
        return Passes(teacher, images, self.should_stop)

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
        record = learner.end_epoch(self.test, self.should_stop)
        self.report(
            {
                "kind": "epoch",
                "run": learner.run.name,
                "epochs": learner.protocol["epochs"],
                "first_epochs": learner.first_epochs,
                **record,
            }
        )
        if learner.epoch == 1:
            for method in learner.objective.untaught:
                line = f"{type(method).__name__} has trained its own parameters alone so far"
                self.report({"kind": "note", "line": f"{learner.run.name}: {line}"})
        if learner.finished:
            self._finish(learner)
        else:
            learner.folder.write_metrics(learner.metrics)

    def _save(self, learners: list[Learner]) -> None:
        before = time.monotonic()
        for learner in learners:
            learner.save()
        self.saved = time.monotonic()
        self.save_seconds = self.saved - before

    def _finish(self, learner: Learner) -> None:
        metrics = learner.metrics
        weights = io.BytesIO()
        torch.save(contents(learner), weights)
        folder = learner.folder
        folder.write_bytes("student.pt", weights.getvalue())
        folder.write_metrics(metrics)
        tests = [m for m in metrics if "test_top1" in m]
        last = tests[-1]
        folder.finish(
            {
                "id": learner.run.id,
                "config": learner.run.config,
                "scores": {
                    "top1": last["test_top1"],
                    "top5": last["test_top5"],
                    "best_top1": max(m["test_top1"] for m in tests),
                    **{k: last[f"test_{k}"] for k in OPTIONAL_SCORES if f"test_{k}" in last},
                },
                "weights_sha256": file_sha256(folder.path / "student.pt"),
                "metrics_sha256": file_sha256(folder.path / "metrics.json"),
                "teacher_sha256": learner.teacher_sha256,
                **(
                    {"teacher_scores": self.teacher_scores}
                    if learner.needs_teacher and self.teacher_scores
                    else {}
                ),
                "dataset_fingerprint": self.fingerprint,
                "images": described(self.dataset),
                "seconds": round(sum(m["seconds"] for m in metrics), 3),
                "cohort": len(self.runs),
                "environment": {
                    **self.environment,
                    "precision": learner.precision,
                    "compile": learner.compiled,
                    "images": "streamed" if self.dataset.streamed else "in memory",
                },
                **({"earlier_environments": learner.earlier} if learner.earlier else {}),
                "started": self.started,
                "ended": time.time(),
            }
        )
        self.report({"kind": "done", "run": learner.run.name, "top1": last["test_top1"]})
