"""What every distillation method is built from and called with.

Nothing here depends on the rest of the suite: a method works in any training loop that
can give it the :class:`Features` of two networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wcordbench.models.features import Features, FeatureShapes

__all__ = [
    "Batch", "FeatureShapes", "Features", "FirstStage", "Method", "SecondView", "Setup",
    "cross_entropy", "lacking",
]  # fmt: skip


class Setup(NamedTuple):
    """What a method is built for.

    All but the first four may be None, as in a loop of a user's own: a method that needs one
    says so in :meth:`Method.unsupported`, most simply with :func:`lacking`.

    Attributes:
        student, teacher: the two networks' feature shapes.
        num_classes: K.
        labels: class of every training image, ``(N,)`` int64; ``len(labels)`` is N. Memory
            banks have one entry an image and draw negatives among the other classes.
        student_classifier: the student's last layer, ``(B, D)`` to ``(B, K)``, with gradient.
        teacher_classifier: the teacher's, frozen. Call them as ``self.setup.…``: as an
            attribute of the method they would be trained and stored twice.
        teacher_norms: scale and shift, each ``(C,)``, of the teacher's batch norm before each
            stage's last ReLU; or why there are none.
        batch_size: of a whole batch, B.
    """

    student: FeatureShapes
    teacher: FeatureShapes
    num_classes: int
    labels: Tensor
    student_classifier: nn.Module | None = None
    teacher_classifier: nn.Module | None = None
    teacher_norms: tuple[tuple[Tensor, Tensor], ...] | str | None = None
    batch_size: int | None = None


Need = Literal[
    "student_map", "teacher_map", "student_classifier", "teacher_classifier", "teacher_norms",
    "student_preact", "batch_size",
]  # fmt: skip


def lacking(setup: Setup, *needs: Need) -> str | None:
    """Why a method that needs these cannot be built, or None.

    Args:
        setup: what there is.
        needs: fields of :class:`Setup`, ``student_map`` and ``teacher_map`` for the map before
            pooling, or ``student_preact`` for the maps before the stages' last ReLU.
    """
    for need in needs:
        network, _, what = need.partition("_")
        if what == "map":
            shapes = setup.student if network == "student" else setup.teacher
            if shapes.last_map is None:
                return f"the {network} shows no map before its pooling"
        elif what == "preact":
            if not setup.student.preact:
                return "the student does not show its maps before their last ReLU"
        elif what == "classifier":
            if getattr(setup, need) is None:
                return f"the {network} shows no classifier"
        elif need == "teacher_norms":
            if not isinstance(setup.teacher_norms, tuple):
                return setup.teacher_norms or "the teacher shows no batch norms"
        elif setup.batch_size is None:
            return "the batch size is not known"
    return None


class SecondView(NamedTuple):
    """Both networks' features of a strongly augmented view of a batch's images."""

    student: Features
    teacher: Features


class Batch(NamedTuple):
    """A batch as methods see it.

    Attributes:
        labels: ``(B,)`` int64.
        indices: each image's number in the training set, ``(B,)`` int64.
        epoch, epochs: the epoch of training, from 1 to ``epochs``.
        second: for methods with :attr:`Method.second_view`.
        soft: a distribution over classes for each image, ``(B, K)``, where labels are smoothed
            or images mixed (``labels`` are then its largest); None where labels are all.
    """

    labels: Tensor
    indices: Tensor
    epoch: int = 1
    epochs: int = 1
    second: SecondView | None = None
    soft: Tensor | None = None


@dataclass(frozen=True)
class FirstStage:
    """Training that comes before the ordinary protocol (AB, FSP, FT).

    Only :meth:`Method.first_stage_loss` is minimised; there is no cross entropy. What is
    trained is in training mode, everything else in evaluation mode.

    Attributes:
        epochs: length.
        learning_rate: constant, ``None`` for the suite's own first-stage rate.
        trains: ``"student_body"`` (all but the classifier) and/or ``"method"``.
    """

    epochs: int = 30
    learning_rate: float | None = None
    trains: tuple[Literal["student_body", "method"], ...] = ("method",)


def cross_entropy(student: Features, batch: Batch) -> Tensor:
    """The mean cross entropy of the student's logits in nats, a scalar."""
    targets = batch.labels if batch.soft is None else batch.soft
    return F.cross_entropy(student.logits.float(), targets)


class Method(nn.Module):
    """Base of all methods: a loss term between a student's and a teacher's features.

    Trainable parts (embeddings, regressors, critics) are parameters and join the student's
    optimiser; state that must survive a crash (memory banks, constants) is buffers. Any other
    attribute that changes while training is refused, unless its name begins with an underscore:
    a cache that may be lost. Random draws use :attr:`generator`, never the global one.
    :meth:`forward` alone must be defined; a hook that is not costs nothing. Its loss has a
    gradient for the student, in some epochs at least, or the method defines another hook that
    teaches.

    Args:
        setup: shapes of both networks, classes and training labels.

    Subclasses add keyword-only options with literal defaults; a suite may set them.
    """

    #: whether batches carry a second, strongly augmented view of the same images
    second_view: ClassVar[bool] = False

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self._seed = 0
        self._generator: torch.Generator | None = None
        #: device type and generator state of a loaded state_dict, until first used
        self._resume_from: tuple[str, Tensor] | None = None

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The method's own loss term, a scalar; γ, α and β are applied by the caller."""
        raise NotImplementedError

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Why the method is undefined for this pair (the reason behind "N/A"), or None."""
        return None

    @property
    def first_stage(self) -> FirstStage | None:
        """The stage trained before the ordinary protocol, or None."""
        return None

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss of the first stage, a scalar."""
        raise NotImplementedError

    def prepare(self, teacher: Iterable[tuple[Features, Tensor]]) -> None:
        """Look at what the teacher makes of the training set, once, before training.

        What it finds goes into buffers.

        Args:
            teacher: its features of the training images and their labels ``(B,)``, as they
                are tested (no augmentation), in the order of the data. It may be iterated
                several times; each is a pass of the teacher.
        """

    def adapt(
        self, student: Features, teacher: Features | None
    ) -> tuple[Features, Features | None]:
        """The features as cross entropy and all terms see them.

        A method that changes the student does it here, with modules of its own. It is also
        called in evaluation mode, ``teacher`` being None: the logits that it gives then are
        the student's prediction, in every evaluation and in what is exported.
        """
        return student, teacher

    def cross_entropy(self, student: Features, batch: Batch) -> Tensor:
        """What γ weighs, a scalar; in a+b it is that of the first method that defines it."""
        return cross_entropy(student, batch)

    def manual_seed(self, seed: int) -> None:
        """Seed the method's own random draws and start them anew."""
        self._seed = seed
        self._generator = None
        self._resume_from = None

    def generator(self, device: torch.device) -> torch.Generator:
        """The method's own random generator on ``device``.

        Its state is part of :meth:`state_dict`: a method loaded from one continues the
        same draws, on the same kind of device.
        """
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
            self._generator.manual_seed(self._seed)
            if self._resume_from is not None and self._resume_from[0] == device.type:
                self._generator.set_state(self._resume_from[1])
            self._resume_from = None
        return self._generator

    def get_extra_state(self) -> dict[str, Any]:
        """What :meth:`state_dict` stores of the random generator."""
        drawn = self._resume_from
        if self._generator is not None:
            drawn = (self._generator.device.type, self._generator.get_state())
        device, state = drawn or ("", torch.empty(0, dtype=torch.uint8))
        return {"seed": self._seed, "device": device, "state": state}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`get_extra_state` gave."""
        self.manual_seed(state["seed"])
        if state["device"]:
            # A generator's state is a CPU tensor, wherever the checkpoint was mapped to.
            self._resume_from = (state["device"], state["state"].cpu())
