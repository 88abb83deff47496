"""Mistakes in a method's or network's code that would train to the end and give a number."""

from __future__ import annotations

import copy
import functools
import random
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wcordbench.definitions import PACKAGE
from wcordbench.errors import UserError
from wcordbench.imports import is_own
from wcordbench.methods.base import Features, Method


class MistakeError(UserError):
    """A method's or a network's code, and not the suite, is to be mended."""


def scalar(loss: Any, method: nn.Module) -> Tensor:
    """A term's loss, if it is one: a number of Python's has no gradient and trains nothing.

    Raises:
        MistakeError: it is no tensor of no dimensions.
    """
    if isinstance(loss, Tensor) and loss.ndim == 0:
        return loss
    what = f"of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise MistakeError(
        f"{type(method).__name__}.forward gives a loss that is {what}; it must be a tensor of no"
        " dimensions, such as the mean over the batch"
    )


def defines(method: Method, hook: str) -> bool:
    """Whether a method has a hook of its own."""
    return getattr(type(method), hook) is not getattr(Method, hook)


def teaches(method: Method, loss: Tensor, *student: Features) -> bool | None:
    """Whether a method's loss has a gradient for the student.

    That of a method that teaches in another way need not have one: by :meth:`Method.adapt`,
    :meth:`Method.cross_entropy` or a first stage.

    Args:
        method: what gave it.
        loss: a scalar.
        student: what it was computed from: the student's features, of a second view as well.

    Returns:
        False where it has one for parameters of the method's own alone, which are trained before
        the student or in turn with it; None where it cannot be told: the loss is 0, or nobody
        asks for a gradient.

    Raises:
        MistakeError: it has none at all.
    """
    if any(defines(method, hook) for hook in ("adapt", "cross_entropy", "first_stage")):
        return True
    features = [x for x in tensors(student) if x.requires_grad]
    if not features or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    leaves = {id(x) for x in features}
    if (classifier := method.setup.student_classifier) is not None:
        leaves |= {id(p) for p in classifier.parameters()}
    if _reaches(loss, leaves, {x.grad_fn for x in features if x.grad_fn is not None}):
        return True
    if not loss.detach().any():
        return None
    if _reaches(loss, {id(p) for p in method.parameters()}, set()):
        return False
    raise MistakeError(untaught(method))


def untaught(method: Method) -> str:
    """What to say of a method whose loss has no gradient for the student."""
    return (
        f"{type(method).__name__}.forward gives a loss without a gradient for the student, which"
        " would be trained as if by cross entropy alone; compute it from the student's features as"
        " they come, without detach(), item() or no_grad()"
    )


def _reaches(loss: Tensor, leaves: set[int], aims: set[Any]) -> bool:
    """Whether the graph of a loss holds one of the leaves (by their ids) or nodes."""
    seen: set[Any] = set()
    front: list[Any] = [loss.grad_fn]
    while front:
        node = front.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in aims or id(getattr(node, "variable", None)) in leaves:
            return True
        front.extend(following for following, _ in node.next_functions)
    return False


class Given:
    """What all runs of a cohort are given, as it is before the first of them takes its step.

    Args:
        values: tensors, or tuples and lists of them.
    """

    def __init__(self, *values: Any) -> None:
        self.given = list(tensors(values))
        self.before = [x._version for x in self.given]

    @property
    def changed(self) -> bool:
        """Whether something has been changed in place."""
        return [x._version for x in self.given] != self.before

    def check(self, run: str) -> None:
        """See that a run has left it as it was.

        Raises:
            MistakeError: it has not.
        """
        if self.changed:
            raise MistakeError(
                f"{run}: its method or network changes the batch or the teacher's features in"
                " place, which every run beside it is given as well; change a copy in place"
                " (x.clone()), or use an operation that makes one"
            )


class Plain:
    """The attributes of modules that no state dict holds, as they are now.

    Attributes that begin with an underscore are caches of their owner's, which may be lost.
    Modules of installed packages, and those with an extra state of their own, are not looked at,
    nor is what is in objects other than numbers, text, tensors, arrays and generators, or a
    change of a tensor's ``.data``.

    Args:
        modules: their children are looked at as well.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.modules = modules
        self.before = self._look()

    def check(self) -> None:
        """See whether they are still what they were.

        Raises:
            MistakeError: one is not, so that a resumed run would go on without it.
        """
        for (owner, name), value in self._look().items():
            if (owner, name) not in self.before or self.before[owner, name] != value:
                raise MistakeError(
                    f"{type(owner).__name__}.{name} changes while training, and no checkpoint holds"
                    f" it: a resumed run would go on without it. Make it a buffer:"
                    f" self.register_buffer({name!r}, tensor), with in-place changes; or call it"
                    f" _{name} if it may be lost"
                )

    def __deepcopy__(self, memo: dict[int, Any]) -> Plain:
        # The copies' tensors have versions of their own.
        return Plain(*copy.deepcopy(self.modules, memo))

    def _look(self) -> dict[tuple[nn.Module, str], Any]:
        known = vars(nn.Module()).keys() | {"setup"}
        return {
            (module, name): _mark(value)
            for outer in self.modules
            for module in outer.modules()
            if _leaves_state_to_torch(module) and _ours(type(module).__module__)
            for name, value in vars(module).items()
            if name not in known and not name.startswith("_") and not _derived(module, name)
        }


def _leaves_state_to_torch(module: nn.Module) -> bool:
    """Whether it has no extra state of its own."""
    known = (nn.Module.get_extra_state, Method.get_extra_state)
    return type(module).get_extra_state in known


@functools.cache
def _ours(module: str) -> bool:
    """Whether a Python module, given by its name, is of this package or a user's own."""
    name = getattr(sys.modules.get(module), "__file__", None)
    if name is None:
        return True
    file = Path(name).resolve()
    return file.is_relative_to(PACKAGE) or is_own(file)


def _derived(module: nn.Module, name: str) -> bool:
    """Whether ``spectral_norm`` or ``weight_norm`` compute a tensor from parameters."""
    return any(f"{name}_{end}" in module._parameters for end in ("orig", "g"))


def _mark(value: Any) -> Any:
    """What changes when a value does: itself, or the object and its version."""
    if isinstance(value, Tensor):
        return _Same(value), value._version
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, torch.Generator):
        return _Same(value), value.get_state().numpy().tobytes()
    if isinstance(value, np.random.Generator):
        return _Same(value), repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return _Same(value), value.getstate()
    if isinstance(value, list | tuple | deque | set | frozenset):
        return type(value), tuple(_mark(x) for x in value)
    if isinstance(value, dict):
        return tuple((key, _mark(x)) for key, x in value.items())
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return value
    return _Same(value)


class _Same:
    """Equal to what holds the same object, which it keeps: its address is not used again."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)


__all__ = [
    "Given", "MistakeError", "Plain", "defines", "scalar", "teaches", "tensors", "untaught",
]  # fmt: skip
