"""Which of the values in a checkpoint file are a network's weights.

Files hold a state dict as it is, or inside of others under any key, with or without prefixes
before its names (``module.`` of DataParallel, ``_orig_mod.`` of torch.compile, ``model.`` of
Lightning modules, any other, and several). What has every name of the network is what is meant.

Where several do, **weights averaged over training (EMA) are taken before plain ones**, as timm
does and as the accuracies it logs are measured; then those under the first of :data:`USUAL`.
What was chosen and what was not is told in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

#: keys under which weights usually are, the first preferred
USUAL = ("model", "state_dict", "model_state_dict", "net", "network", "weights")
_EMA = re.compile(r"(^|[_.\-])(ema|swa)($|[_.\-])", re.I)
#: how deep dictionaries are searched
_DEEPEST = 4


class AmbiguousError(Exception):
    """Several parts of a file are the network's, and none is to be preferred."""


@dataclass(frozen=True)
class Found:
    """Weights under the network's own names.

    Attributes:
        state: by name.
        remark: what was chosen of several, or left out; empty where nothing was.
    """

    state: dict[str, Tensor]
    remark: str = ""


@dataclass(frozen=True)
class _Part:
    """Some of a file's values: those below ``keys`` whose names begin with ``prefix``."""

    keys: tuple[str, ...]
    prefix: str
    state: dict[str, Tensor]
    rest: tuple[str, ...]

    @property
    def name(self) -> str:
        return ".".join([*self.keys, *([self.prefix.rstrip(".")] if self.prefix else [])])

    @property
    def averaged(self) -> bool:
        return any(_EMA.search(part) for part in (*self.keys, *self.prefix.split(".")))

    @property
    def rank(self) -> tuple[bool, int]:
        usual = USUAL.index(self.keys[0]) if self.keys and self.keys[0] in USUAL else len(USUAL)
        return not self.averaged, usual


def find(content: Any, model: nn.Module) -> Found | None:
    """The weights of a network in what a file holds.

    Args:
        content: of the file.
        model: the network.

    Returns:
        None where there are no named tensors at all; where none fit, the likeliest, whose names
        then say what is wrong.

    Raises:
        AmbiguousError: several parts fit equally well.
    """
    dicts = list(_dicts(content, ()))
    if not dicts:
        return None
    own = model.state_dict()
    wanted = {key: own[key].shape for key in own if not key.endswith("num_batches_tracked")}
    forms = [("", wanted)]
    outer = next(iter(wanted), "").partition(".")[0] + "."
    if outer != "." and all(key.startswith(outer) for key in wanted):  # a network in a wrapper
        forms.append((outer, {k.removeprefix(outer): v for k, v in wanted.items()}))
    for before, names in forms:
        fitting = [p for keys, state in dicts for p in _parts(keys, state, names)]
        if fitting:
            part, remark = _choose(fitting, names)
            return Found({before + key: value for key, value in part.state.items()}, remark)
    _, state = max(dicts, key=lambda d: (len(_overlap(d[1], wanted)[1]), -len(d[0])))
    prefix, _ = _overlap(state, wanted)
    return Found({key.removeprefix(prefix): value for key, value in state.items()})


def _dicts(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary of named tensors in a file, without what else is in it."""
    if not isinstance(content, Mapping) or len(keys) > _DEEPEST:
        return
    if all(isinstance(key, str) for key in content):
        state = {k: v for k, v in content.items() if isinstance(v, Tensor)}
        if any(value.dim() for value in state.values()):
            yield keys, state
    for key, value in content.items():
        yield from _dicts(value, (*keys, str(key)))


def _parts(
    keys: tuple[str, ...], state: dict[str, Tensor], names: dict[str, torch.Size]
) -> Iterator[_Part]:
    """The parts of a dictionary that have every name of a network, by their prefix."""
    anchor = max(names, key=len, default="")
    for key in state:
        prefix = key.removesuffix(anchor)
        if key == prefix or (prefix and not prefix.endswith(".")):
            continue
        if all(prefix + name in state for name in names):
            inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            rest = tuple(k for k in state if not k.startswith(prefix))
            yield _Part(keys, prefix, inside, rest)


def _choose(parts: list[_Part], names: dict[str, torch.Size]) -> tuple[_Part, str]:
    """The part to take of those that fit, and what to say of it."""
    same = [p for p in parts if all(p.state[n].shape == s for n, s in names.items())]
    ranked = sorted(same or parts, key=lambda part: part.rank)
    first, others = ranked[0], ranked[1:]
    if others and others[0].rank == first.rank:
        called = " and ".join(repr(part.name) for part in (first, others[0]))
        raise AmbiguousError(f"holds weights of this network under {called}; save one of them")
    remarks = []
    if others:
        what = "averaged over its training (EMA)" if first.averaged else "the network's"
        beside = ", ".join(repr(part.name) for part in others)
        remarks.append(f"the weights under {first.name!r} are taken as {what}, not {beside}")
    if first.rest and not others:
        remarks.append(
            f"what is not under {first.prefix!r} is left out ({first.rest[0]}"
            f"{f' and {len(first.rest) - 1} more' if len(first.rest) > 1 else ''})"
        )
    return first, "; ".join(remarks)


def _overlap(state: dict[str, Tensor], names: dict[str, torch.Size]) -> tuple[str, set[str]]:
    """The prefix of all names below which most are the network's, and those."""
    best, prefix = ("", set(state) & set(names)), ""
    while state:
        following = next(iter(state))[len(prefix) :].partition(".")
        prefix += following[0] + following[1]
        if not following[1] or not all(key.startswith(prefix) for key in state):
            break
        inside = {key.removeprefix(prefix) for key in state} & set(names)
        if len(inside) > len(best[1]) or not best[1]:
            best = (prefix, inside)
    return best
