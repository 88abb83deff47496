"""One run while it trains: its student, its objective, its optimiser, its position."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, SecondView, Setup
from wcordbench.results.groups import or_order
from wcordbench.results.store import ANEW, RunFolder
from wcordbench.seeds import derive
from wcordbench.suite.runs import Run
from wcordbench.training.average import Average
from wcordbench.training.compiling import check_compile
from wcordbench.training.draws import seeded
from wcordbench.training.evaluation import evaluate
from wcordbench.training.host import read
from wcordbench.training.mistakes import Plain
from wcordbench.training.objective import Objective, Predicting, checks
from wcordbench.training.optimizer import Group, build, give_rates, undecayed
from wcordbench.training.pace import Clock
from wcordbench.training.precision import autocast, resolve
from wcordbench.training.schedule import learning_rate
from wcordbench.training.targets import smoothed


class DivergedError(Exception):
    """The loss is no longer finite."""


class Learner:
    """A run in training.

    The position is ``(epoch, step)``; the epochs of a first stage count from below zero up,
    so that a single number orders all training. Everything that the next step depends on is
    in :meth:`state`, or is a function of the seed and the position.

    Args:
        run: what to train.
        folder: where its files go.
        setup: what its method is built for (None without a teacher).
        image_size: side of the images, in pixels.
        channels, num_classes: of the dataset.
        steps_per_epoch: batches in an epoch.
        device: where it trains.
        fingerprint, teacher_sha256: of the dataset's images and the weights that teach; a
            checkpoint goes on with these alone.

    Raises:
        UserError: the network or the method cannot be built for this dataset and pair.
    """

    def __init__(
        self,
        run: Run,
        folder: RunFolder,
        setup: Setup | None,
        image_size: int,
        channels: int,
        num_classes: int,
        steps_per_epoch: int,
        device: torch.device,
        fingerprint: str = "",
        teacher_sha256: str | None = None,
    ) -> None:
        config = run.config
        self.run, self.folder, self.device = run, folder, device
        self.fingerprint, self.teacher_sha256 = fingerprint, teacher_sha256
        self.protocol: dict[str, Any] = config["train"]
        self.precision = resolve(self.protocol["precision"], device)
        self.steps_per_epoch, self.num_classes = steps_per_epoch, num_classes
        self.needs_teacher = bool(config["method"]["terms"])
        for check in checks(self.protocol):
            check(config["method"])
        with seeded(derive(config["seed"], "student")):
            student = models.create(config["model"], num_classes, image_size, channels)
        if setup is not None:
            setup = setup._replace(student_classifier=models.classifier_of(student))
        with seeded(derive(config["seed"], "method")):
            objective = Objective(config["method"], setup)
        objective.manual_seed(derive(config["seed"], "draws"))
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self.compiled = "off"
        #: the student as training steps call it
        self.forward: Callable[[Tensor], Features] = self.student
        self.objective = objective.to(device)
        #: gives the features that the student predicts by
        self.deployed = self.deploy(self.student)
        self.first = [m.first_stage for m in objective.methods if m.first_stage]
        if self.first and "first_stage" not in self.protocol:
            raise UserError(
                f"method {config['method']['name']!r} has a first stage that its registration"
                " does not declare; add two_stage=True to its decorator"
            )
        self.first_epochs: int = self.protocol["first_stage"]["epochs"] if self.first else 0
        self.epoch, self.step = -self.first_epochs, 0
        self.metrics: list[dict[str, Any]] = []
        self.clock = Clock()
        #: the rates of the step being taken by their factor, on the device: a recorded graph
        #: reads them anew
        self._rates = {f: torch.zeros((), device=device) for f in (1.0, *objective.lr_factors)}
        self.optimizer = self._optimizer()
        #: of the student's weights, once the ordinary protocol begins, where it asks for one
        self.average: Average | None = None
        #: the machine and the code that train, and those that trained before an interruption
        self.environment: dict[str, Any] = {}
        self.earlier: list[dict[str, Any]] = []
        #: what no checkpoint holds
        self.plain = Plain(self.student, self.objective)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.seen = 0

    def compile(self, mode: str, backend: str = "inductor") -> None:
        """Have the training steps call the student through ``torch.compile``.

        The student itself, its state dict and its evaluation, whose outputs outlive the next
        call, stay as they are. A failure to compile shows at the first step.

        Args:
            mode: ``off``, ``default``, or ``reduce-overhead``, which is CUDA graphs.
            backend: another one of torch's, which takes no mode, for tests.

        Raises:
            UserError: it cannot work here.
        """
        check_compile(mode, self.precision, self.device)
        if mode == "off":
            return
        self.compiled = mode
        how: dict[str, Any] = {"mode": mode} if backend == "inductor" else {"backend": backend}
        how["dynamic"] = False  # else an epoch's smaller last batch replaces the others' graph
        self.forward = torch.compile(self.student, **how)

    def deploy(self, student: nn.Module) -> nn.Module:
        """A network of the student's kind with what the method adds to its prediction."""
        return Predicting(student, self.objective) if self.objective.adapts else student

    @property
    def in_first_stage(self) -> bool:
        """Whether the next step belongs to the stage before the ordinary protocol."""
        return self.epoch < 0

    @property
    def second_view(self) -> bool:
        """Whether the next step wants a second view of its images."""
        return self.objective.second_view and not self.in_first_stage

    @property
    def finished(self) -> bool:
        """Whether every epoch has been trained and evaluated."""
        return self.epoch >= int(self.protocol["epochs"])

    def rate(self) -> float:
        """The learning rate of the step about to be taken."""
        if self.in_first_stage:
            return float(self.protocol["first_stage"]["learning_rate"])
        done = self.epoch * self.steps_per_epoch + self.step
        return learning_rate(self.protocol, done, self.steps_per_epoch)

    def _groups(self) -> dict[Group, list[nn.Parameter]]:
        """What is trained now, by how it is treated."""
        own = self.objective.parameter_groups()
        chosen = list(self.student.parameters())
        if self.in_first_stage:
            trains = {part for stage in self.first for part in stage.trains}
            if "student_body" in trains:
                student: Any = self.student  # every model has a get_classifier, no nn.Module
                classifier = {id(p) for p in student.get_classifier().parameters()}
                chosen = [p for p in chosen if id(p) not in classifier]
            else:
                chosen = []
            own = own if "method" in trains else {}
        spared = set()
        if not self.protocol.get("optimizer", {}).get("decay_norms_and_biases", True):
            spared = undecayed(self.student, self.objective)
        groups: dict[Group, list[nn.Parameter]] = {}
        for factor, parameters in {1.0: [*chosen, *own.pop(1.0, [])], **own}.items():
            for parameter in parameters:
                group = Group(factor, id(parameter) not in spared)
                groups.setdefault(group, []).append(parameter)
        return groups

    def _optimizer(self) -> torch.optim.Optimizer:
        return build(self.protocol, self._groups(), self._rates)

    def start_epoch(self) -> None:
        """Set every module to the mode of the current stage."""
        self.student.train()
        self.objective.train()
        if self.in_first_stage and not any("student_body" in s.trains for s in self.first):
            self.student.eval()
        if "ema" in self.protocol and not self.in_first_stage and self.average is None:
            self.average = Average(self.student, self.protocol["ema"]["decay"])

    def train_step(
        self,
        images: Tensor,
        teacher: Features | None,
        batch: Batch,
        second: tuple[Tensor, Features] | None = None,
    ) -> None:
        """One step of gradient descent.

        Args:
            images: ``(B, C, H, W)``, normalised.
            teacher: the teacher's features of them; None without a teacher.
            batch: their labels and indices.
            second: a second view of the same images and the teacher's features of it, where
                :attr:`second_view` asks for one.

        Raises:
            MistakeError: the method's loss has no gradient, or it or the network keeps state that
                no checkpoint holds.
        """
        for factor, rate in self._rates.items():
            rate.fill_(factor * self.rate())
        if self.compiled == "reduce-overhead":
            # The graphs write over what they gave before: nothing of an earlier step is read
            # again, neither this student's features nor any student's gradients.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        batch = smoothed(batch, self.num_classes, self.protocol.get("label_smoothing", 0.0))
        batch = batch._replace(epoch=self.epoch + 1, epochs=int(self.protocol["epochs"]))
        # Dropout and stochastic depth draw from the global generators.
        seed = derive(self.run.config["seed"], "step", self.epoch, self.step)
        with seeded(seed, self.device):
            self._update(images, teacher, batch, second)
        if self.step == 0:
            self.plain.check()
        self.seen += len(batch.labels)
        self.step += 1

    def _update(
        self,
        images: Tensor,
        teacher: Features | None,
        batch: Batch,
        second: tuple[Tensor, Features] | None,
    ) -> None:
        """The step's work on the device.

        Nothing in it waits for the device, and no number that Python knows changes in it from
        step to step of an epoch, so that what the device is told to do is always the same.
        """
        with autocast(self.precision, self.device):
            features = self.forward(images)
            if self.in_first_stage:
                assert teacher is not None
                loss = self.objective.first_stage_loss(features, teacher, batch)
            else:
                if second is not None:
                    strong = SecondView(self.forward(second[0]), second[1])
                    batch = batch._replace(second=strong)
                features, teacher, batch = self.objective.adapt(features, teacher, batch)
                loss = self.objective.loss(features, teacher, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if "clip_norm" in self.protocol:
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.protocol["clip_norm"])
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.student)
        with torch.no_grad():
            self.loss_sum += loss.detach() * len(batch.labels)
            self.correct += (features.logits.argmax(1) == batch.labels).sum()

    def end_epoch(
        self,
        test: Iterable[tuple[Tensor, Tensor]],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Close an epoch: check the loss, evaluate, move on, keep the record.

        Args:
            test: batches of images ``(B, C, H, W)`` and labels ``(B,)``.
            should_stop: asked before every one of them.

        Raises:
            DivergedError: the epoch's loss, or that on the test images, is NaN or infinite.
            StoppedError: ``should_stop`` said so; the epoch is still to be closed.
            MistakeError: the network or the method keeps state that no checkpoint holds, or, in
                the last epoch, a method's loss has never had a gradient for the student.
        """
        self.plain.check()
        if self.epoch + 1 >= int(self.protocol["epochs"]):
            self.objective.check_taught()
        loss_sum, correct = read(self.loss_sum, self.correct)
        loss = loss_sum / self.seen
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss} in {self._where()}")
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "learning_rate": self.rate_of_last_step(),
            "train_loss": loss,
            "train_top1": 100 * correct / self.seen,
        }
        if not self.in_first_stage:
            record |= evaluate(
                self.deployed, test, self.precision, self.device, should_stop,
                auc=self.run.config.get("metric") == "auc",
            )  # fmt: skip
            if not math.isfinite(record["test_loss"]):  # the last step of all broke the weights
                raise DivergedError(
                    f"the loss on the test images became {record['test_loss']} in {self._where()}"
                )
            if self.average is not None:
                found = evaluate(
                    self.deploy(self.average.module), test, self.precision, self.device, should_stop
                )
                record |= {key.replace("test_", "test_ema_"): value for key, value in found.items()}
        record["seconds"] = round(self.clock.split(), 3)
        self.metrics.append(record)
        was_first = self.in_first_stage
        self.epoch, self.step, self.seen = self.epoch + 1, 0, 0
        self.loss_sum.zero_()
        self.correct.zero_()
        if was_first and not self.in_first_stage:
            self.optimizer = self._optimizer()
        return record

    def _where(self) -> str:
        if self.in_first_stage:
            return f"epoch {self.epoch + self.first_epochs + 1} of the first stage"
        return f"epoch {self.epoch + 1}"

    def rate_of_last_step(self) -> float:
        """The learning rate of the step just taken."""
        self.step -= 1
        rate = self.rate()
        self.step += 1
        return rate

    def state(self) -> bytes:
        """All that must survive a crash."""
        buffer = io.BytesIO()
        torch.save(
            {
                "run": self.run.id,
                "dataset": self.fingerprint,
                "teacher": self.teacher_sha256,
                "student": self.student.state_dict(),
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "loss_sum": self.loss_sum,
                "correct": self.correct,
                "seen": self.seen,
                "metrics": self.metrics,
                "seconds": self.clock.split(keep=True),
                "precision": self.precision,
                "taught": self.objective._taught,
                "environments": [*self.earlier, self.environment],
                "average": None if self.average is None else self.average.state_dict(),
            },
            buffer,
        )
        return buffer.getvalue()

    def save(self) -> None:
        """Write the checkpoint and the metrics so far."""
        self.folder.write_sealed("checkpoint.pt", self.state())
        self.folder.write_metrics(self.metrics)

    def resume(self) -> bool:
        """Continue from the checkpoint, if there is one; says whether there was.

        Raises:
            UserError: it is damaged, another run's, of other images or another teacher.
        """
        file = self.folder.read_sealed("checkpoint.pt")
        if file is None:
            return False
        state = torch.load(file, map_location=self.device, weights_only=True)
        order = or_order(self.run.config)
        for key, mine, theirs in (
            ("run", self.run.id, "is another run's"),
            ("dataset", self.fingerprint, f"was written when the dataset held other images{order}"),
        ):
            if state.get(key) != mine:
                raise UserError(f"{self.folder.path / 'checkpoint.pt'} {theirs}; {ANEW}")
        # Checkpoints of older versions do not say it.
        if state.get("teacher") not in (None, self.teacher_sha256):
            raise UserError(
                f"{self.folder.path / 'checkpoint.pt'} is of a student that other weights of its"
                f" teacher taught; {ANEW}"
            )
        self.epoch, self.step = state["epoch"], state["step"]
        self.optimizer = self._optimizer()
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        give_rates(self.optimizer, self._groups(), self._rates)
        if state.get("average") is not None:
            self.average = Average(self.student, self.protocol["ema"]["decay"])
            self.average.load_state_dict(state["average"])
        self.loss_sum.copy_(state["loss_sum"])
        self.correct.copy_(state["correct"])
        self.seen, self.metrics = state["seen"], state["metrics"]
        self.clock = Clock(state["seconds"])
        self.earlier = [e for e in state.get("environments", []) if e != self.environment]
        # It ends as it began, also on a device where "auto" means something else.
        self.precision = state.get("precision", self.precision)
        self.objective._taught = state.get("taught", {})
        self.plain = Plain(self.student, self.objective)
        return True


__all__ = ["DivergedError", "Learner"]
