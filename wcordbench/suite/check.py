"""Checks that need the networks' shapes: still no weights, no data, no training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.schema import MethodSpec, Pair, Suite, Teacher, show


@dataclass(frozen=True)
class Undefined:
    """A method that does not exist for a pair, and why: "N/A" in the table."""

    pair: Pair
    method: MethodSpec
    reason: str

    def __str__(self) -> str:
        return f"{self.method.title} on {self.pair.name}: N/A ({self.reason})"


def check_shapes(suite: Suite) -> list[Undefined]:
    """Build every network of the suite without memory and see what it makes of the images.

    A dataset that does not say its classes is taken to have 100; a checkpoint for it is
    read when it trains. Every method is built once as well, so that an option out of range
    shows now.

    Returns:
        The methods that are undefined for a pair.

    Raises:
        UserError: a network does not exist or cannot take the images' size, a teacher's
            checkpoint is not one of its network and classes, a method does not take its
            options' values, or a plugin cannot be imported.
    """
    import torch  # only here: reading and expanding a suite must not need it

    from wcordbench import models
    from wcordbench.methods.base import Setup
    from wcordbench.training.objective import Objective, undefined

    meta = registry.get("dataset", suite.dataset.name).meta
    size = suite.dataset.size or meta.get("size") or _option(suite, "image_size", 32)
    classes = suite.task.classes if suite.task else meta.get("classes", 100)
    sizes = {
        "student": suite.views.student.size or size, "teacher": suite.views.teacher.size or size
    }  # fmt: skip
    channels = len(suite.dataset.mean)
    notes = []
    built = set()
    for i, pair in enumerate(suite.pairs):
        student, teacher = (
            _try(
                suite,
                functools.partial(models.feature_shapes, name, classes, sizes[key], channels),
                f"{name} cannot take images of {sizes[key]}×{sizes[key]} pixels",
                "pairs",
                i,
                key,
            )
            for key, name in (("student", pair.student), ("teacher", pair.teacher.model))
        )
        if pair.teacher.checkpoint is not None and (suite.task or "classes" in meta):
            _try(
                suite,
                functools.partial(_weights, pair.teacher, classes, sizes["teacher"], channels),
                f"{pair.teacher.checkpoint} cannot be read",
                "pairs",
                i,
                "teacher",
                "checkpoint",
            )
        # One image a class: enough for what a method checks when it is built.
        setup = Setup(student, teacher, classes, torch.arange(classes))
        for j, method in enumerate(suite.methods):
            config = {"gamma": 1.0, "terms": [t.model_dump() for t in method.terms()]}
            reason = _try(
                suite,
                functools.partial(undefined, config, setup),
                f"{method.name} cannot be checked",
                "methods",
                j,
            )
            if reason:
                notes.append(Undefined(pair, method, reason))
            elif j not in built:
                with torch.random.fork_rng(devices=[]):
                    _try(
                        suite,
                        functools.partial(Objective, config, setup),
                        f"{method.name} cannot be built",
                        "methods",
                        j,
                    )
                built.add(j)
    return notes


def _weights(teacher: Teacher, classes: int, size: int, channels: int) -> None:
    """Read a teacher's checkpoint once: of another architecture it is known before training."""
    import torch

    from wcordbench import models

    with torch.random.fork_rng(devices=[]):
        model = models.create(teacher.model, classes, size, channels)
    assert teacher.checkpoint is not None
    models.load_checkpoint(model, teacher.checkpoint)


def _option(suite: Suite, name: str, default: int) -> int:
    value = suite.dataset.resolved_options().get(name, default)
    if not isinstance(value, int) or value < 1:
        raise suite.mistake(
            f"must be a whole number above 0, not {show(value)}", "dataset", "options", name
        )
    return value


def _try(suite: Suite, action: Callable[[], Any], what: str, *at: str | int) -> Any:
    """The action's value; what goes wrong becomes a sentence about the key at a path."""
    try:
        return action()
    except UserError as error:
        raise suite.mistake(f": {error}", *at) from None
    # A network or method of anyone's raises anything.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise suite.mistake(f": {what} ({reason})", *at) from error
