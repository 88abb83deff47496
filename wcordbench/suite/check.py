"""Checks that need the networks' shapes: still no weights, no data, no training."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import MethodSpec, Pair, Suite, Teacher, Train, merge, show


@dataclass(frozen=True)
class Undefined:
    """A method that does not exist for a pair, and why: "N/A" in the table."""

    pair: Pair
    method: MethodSpec
    reason: str

    def __str__(self) -> str:
        return f"{self.method.title} on {self.pair.name}: N/A ({self.reason})"


@dataclass(frozen=True)
class Training:
    """A protocol that networks of a suite are trained by, every override applied.

    Attributes:
        train: the protocol.
        transforms: place in the suite's file of its ``augment.transforms``.
    """

    train: Train
    transforms: tuple[str | int, ...]


def trainings(suite: Suite) -> Iterator[Training]:
    """Every protocol of a suite: of the teachers that it trains, and of the students."""
    for i, pair in enumerate(suite.pairs):
        if pair.teacher.checkpoint is None:
            place = ("pairs", i, "teacher", "train")
            yield _training(suite, [(place, pair.teacher.train)])
        for j, method in enumerate(suite.methods):
            own = [("pairs", i, "methods", part) for part in method.name.split("+")]
            places = [("pairs", i, "train"), ("methods", j, "train"), *own]
            overrides = zip(places, pair.overrides(method), strict=True)
            yield _training(suite, list(overrides))


def _training(suite: Suite, overrides: list[tuple[tuple[str | int, ...], Any]]) -> Training:
    at: tuple[str | int, ...] = ("train",)
    for place, override in overrides:
        said = override.model_dump(exclude_unset=True) if override is not None else {}
        if "transforms" in (said.get("augment") or {}):
            at = place
    train = merge(suite.train, *(override for _, override in overrides))
    return Training(train, (*at, "augment", "transforms"))


def check_shapes(suite: Suite, mistakes: list[str] | None = None) -> list[Undefined]:
    """Build every network of the suite without memory and see what it makes of the images.

    A dataset that does not say its classes is taken to have 100; a checkpoint for it is
    read when it trains. Every method is built once as well, so that an option out of range
    shows now.

    Args:
        suite: what to check.
        mistakes: takes every mistake as a sentence; None raises the first.

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
    from wcordbench.training.objective import Objective, checks, undefined

    meta = registry.get("dataset", suite.dataset.name).meta
    size = suite.dataset.size or meta.get("size") or _option(suite, "image_size", 32)
    classes = suite.task.classes if suite.task else meta.get("classes", 100)
    sizes = {
        "student": suite.views.student.size or size, "teacher": suite.views.teacher.size or size
    }  # fmt: skip
    channels = len(suite.dataset.mean)

    def attempt(action: Callable[[], Any], what: str, *at: str | int) -> Any:
        try:
            return _try(suite, action, what, *at)
        except UserError as error:
            if mistakes is None:
                raise
            mistakes.append(str(error))
            return None

    tried = set()
    for training in trainings(suite):
        named = training.train.augment.transforms
        if (text := json.dumps(named, sort_keys=True)) not in tried and named:
            from wcordbench.data.recipe import try_transforms

            attempt(
                functools.partial(try_transforms, named, size, channels),
                "the transforms cannot be made",
                *training.transforms,
            )
            tried.add(text)
    notes = []
    built = set()
    for i, pair in enumerate(suite.pairs):
        student, teacher = (
            attempt(
                functools.partial(models.outline, name, classes, sizes[key], channels),
                f"{name} cannot take images of {sizes[key]}×{sizes[key]} pixels",
                "pairs",
                i,
                key,
            )
            for key, name in (("student", pair.student), ("teacher", pair.teacher.model))
        )
        given = pair.teacher
        key = "pretrained" if given.pretrained else "checkpoint"
        readable = given.checkpoint is not None and (suite.task or "classes" in meta)
        if given.pretrained or (readable and not to_fetch(given)):
            attempt(
                functools.partial(_weights, given, classes, sizes["teacher"], channels),
                f"{_file(given)} cannot be read",
                "pairs",
                i,
                "teacher",
                key,
            )
        if student is None or teacher is None:
            continue
        # Two batches, two images a class: enough for what a method checks when it is built.
        for j, method in enumerate(suite.methods):
            train = merge(suite.train, *pair.overrides(method))
            batch = train.batch_size
            setup = Setup(
                student.shapes, teacher.shapes, classes,
                torch.arange(2 * max(classes, batch)) % classes,
                student.classifier, teacher.classifier, teacher.norms, batch,
            )  # fmt: skip
            terms = [t.model_dump() for t in method.on(pair).terms()]
            config = {"gamma": 1.0, "terms": terms}
            for check in checks(train.config()):
                attempt(
                    functools.partial(check, config),
                    f"{method.name} cannot be checked",
                    "methods",
                    j,
                )
            known = (j, json.dumps(terms, sort_keys=True))
            reason = attempt(
                functools.partial(undefined, config, setup),
                f"{method.name} cannot be checked",
                "methods",
                j,
            )
            if reason:
                notes.append(Undefined(pair, method, reason))
            elif known not in built:
                with torch.random.fork_rng(devices=[]):
                    attempt(
                        functools.partial(Objective, config, setup),
                        f"{method.name} cannot be built",
                        "methods",
                        j,
                    )
                built.add(known)
    return notes


def remarks(suite: Suite) -> list[str]:
    """What is probably meant otherwise.

    A pretrained teacher's images in a foreign range; a weight's schedule longer than training.

    Raises:
        UserError: a teacher has no pretrained weights.
    """
    found = []
    view, channels = suite.views.teacher, len(suite.dataset.mean)
    given = [view.mean or suite.dataset.mean, view.std or suite.dataset.std]
    for pair in suite.pairs:
        if pair.teacher.pretrained is not True:
            continue
        from wcordbench.models import pretrained_normalisation

        # timm adds up the first layer's weights for grey images, and tiles them for more channels.
        known = [list(v) for v in pretrained_normalisation(pair.teacher.model)]
        grey = [[sum(v) / len(v)] * channels for v in known]
        own = known if channels == len(known[0]) else grey
        if not all(np.allclose(g, o, atol=0.002) for g, o in zip(given, own, strict=True)):
            mean, std = ([round(x, 4) for x in v] for v in own)
            found.append(
                f"{pair.teacher.model} was pretrained on images of mean {mean} and std {std}; to"
                " give it the like, write both under views.teacher"
            )
    return [*found, *_schedules(suite)]


def _schedules(suite: Suite) -> list[str]:
    """Schedules of weights, given or published, that training is too short for."""
    found: dict[str, None] = {}
    for pair in suite.pairs:
        for method in suite.methods:
            epochs = merge(suite.train, *pair.overrides(method)).epochs
            for term in method.on(pair).terms():
                schedule = term.schedule.config() if term.schedule is not None else None
                last = max(_turns(schedule), default=0)
                if last > epochs:
                    when = f"changes until epoch {last:g}, and training ends after {epochs}"
                    remedy = "scale it with 'schedule', or give constant"
                    found[f"{method.title}: the weight of {term.name} {when}; {remedy}"] = None
    return list(found)


def _turns(schedule: dict[str, Any] | None) -> list[float]:
    """The epochs that a schedule names."""
    if schedule is None:
        return []
    ((_, given),) = schedule.items()
    values = [given.get(key, 0) for key in ("epochs", "after")]
    return [*values, *given.get("until", [])]


def _weights(teacher: Teacher, classes: int, size: int, channels: int) -> None:
    """Read a teacher's file once: of another architecture it is known before training.

    Of a library's pretrained weights nothing is fetched: only whether there are any.
    """
    import torch

    from wcordbench import models

    if teacher.pretrained is True:
        models.pretrained_normalisation(teacher.model)
        return
    with torch.random.fork_rng(devices=[]):
        model = models.create(teacher.model, classes, size, channels)
    models.load_checkpoint(model, _file(teacher), transfer=bool(teacher.pretrained))


def _file(teacher: Teacher) -> str:
    """The path of a teacher's file; "True" for weights that a library has."""
    return str(teacher.checkpoint.file if teacher.checkpoint else teacher.pretrained)


def to_fetch(teacher: Teacher) -> bool:
    """Whether a teacher's file is a download that is not there yet."""
    source = teacher.checkpoint
    return source is not None and source.fetched and not Path(source.file).is_file()


def check_fetched(suite: Suite, cells: list[Cell], file: Path) -> None:
    """Refuse to train with teachers that are yet to be downloaded.

    Args:
        suite: whose teachers.
        cells: what is to be trained; those without a teacher need no file.
        file: the suite's file, for the command to give.

    Raises:
        UserError: one is not there.
    """
    for cell in cells:
        if cell.run.config["teacher"] is not None and to_fetch(cell.pair.teacher):
            raise suite.mistake(
                f": {cell.run.checkpoint} is yet to be downloaded; get it with: wcordbench fetch"
                f" {file}",
                "pairs", suite.pairs.index(cell.pair), "teacher", "checkpoint",
            )  # fmt: skip


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
        raise suite.mistake(f": {what} ({registry.reason(error)})", *at) from error
