"""What every distillation method is built from and called with.

Nothing here depends on the rest of the suite: a method works in any training loop that
can give it the :class:`Features` of two networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from wcordbench.models.features import Features, FeatureShapes

__all__ = ["Batch", "FeatureShapes", "Features", "FirstStage", "Method", "Setup"]


class Setup(NamedTuple):
    """What a method is built for.

    Attributes:
        student, teacher: the two networks' feature shapes.
        num_classes: K.
        labels: class of every training image, ``(N,)`` int64; ``len(labels)`` is N. Memory
            banks have one entry an image and draw negatives among the other classes.
    """

    student: FeatureShapes
    teacher: FeatureShapes
    num_classes: int
    labels: Tensor


class Batch(NamedTuple):
    """A batch as methods see it.

    Attributes:
        labels: ``(B,)`` int64.
        indices: each image's number in the training set, ``(B,)`` int64.
        epoch: of the ordinary protocol, from 1.
        epochs: how many there are.
    """

    labels: Tensor
    indices: Tensor
    epoch: int = 1
    epochs: int = 1


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


class Method(nn.Module):
    """Base of all methods: a loss term between a student's and a teacher's features.

    Trainable parts (embeddings, regressors, critics) are parameters and join the student's
    optimiser; state that must survive a crash (memory banks, constants) is buffers. Random
    draws use :attr:`generator`, never the global one.

    Args:
        setup: shapes of both networks, classes and training labels.

    Subclasses add keyword-only options with literal defaults; a suite may set them.
    """

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
