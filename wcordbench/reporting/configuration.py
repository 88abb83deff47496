"""Which runs are alike: configurations compared leaf by leaf, and their differences in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wcordbench.suite.runs import Run

#: where a value stands in a configuration
Path = tuple[str, ...]
#: what stands for a key that one side does not have
MISSING = "nothing"
#: the teacher's part of a path
TEACHER = "teacher"


@dataclass(frozen=True)
class Leaf:
    """A value in which two configurations differ.

    Attributes:
        path: where it stands; the teacher's own run begins with ``teacher``, and a method's
            term goes by its name.
        ours, theirs: the two values, :data:`MISSING` where a side has none.
    """

    path: Path
    ours: Any
    theirs: Any

    @property
    def same(self) -> bool:
        """Whether it is none: 1 and 1.0 are one value, 1 and true are not."""
        kinds = isinstance(self.ours, bool), isinstance(self.theirs, bool)
        return bool(self.ours == self.theirs) and kinds[0] == kinds[1]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells leaves apart, for use in sets: values may be lists."""
        return (*self.path, json.dumps(self.ours), json.dumps(self.theirs))


def of_run(run: Run) -> dict[str, Any]:
    """Everything that a run's result depends on but the seeds, its teacher's run included.

    ``teacher`` is None for a plain training; of a teacher from a file it holds the network and
    its view alone, and ``checkpoint: true``.
    """
    config = {k: v for k, v in run.config.items() if k not in ("seed", TEACHER)}
    source = run.config[TEACHER]
    if source is None:
        config[TEACHER] = None
    elif "checkpoint" in source:
        config[TEACHER] = {k: v for k, v in source.items() if k != "run"} | {"checkpoint": True}
    elif run.teacher is not None and source["run"] == run.teacher.id:
        own = of_run(run.teacher)
        odd = {f"source's {k}": v for k, v in source.items() if k != "run" and v != own.get(k)}
        config[TEACHER] = own | odd
    else:  # by another teacher than is at hand
        config[TEACHER] = dict(source)
    return config


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Leaf]:
    """Where two configurations of :func:`of_run` differ.

    Of a teacher from a file the network and its view count: how it was trained is not known,
    and its accuracy is measured instead.
    """
    left, right = dict(_leaves(ours)), dict(_leaves(theirs))
    if isinstance(ours[TEACHER], Mapping) and ours[TEACHER].get("checkpoint"):
        left.pop((TEACHER, "checkpoint"))
        right = {p: v for p, v in right.items() if p[0] != TEACHER or p[1] in ("model", "view")}
    paths = dict.fromkeys([*left, *right])
    pairs = ((p, left.get(p, MISSING), right.get(p, MISSING)) for p in paths)
    return [leaf for leaf in (Leaf(*of) for of in pairs) if not leaf.same]


def _leaves(value: Mapping[str, Any], at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no mapping; a list is one value, but terms go by their names."""
    for key, inner in value.items():
        path = (*at, key)
        if key == "terms":
            inner = {term["name"]: {k: v for k, v in term.items() if k != "name"} for term in inner}
        if isinstance(inner, Mapping) and inner:
            yield from _leaves(inner, path)
        else:
            yield path, inner


# --- in words -------------------------------------------------------------------

#: parts of a path that add nothing to what a person reads
_SILENT = {"dataset", "train", "method", "terms", "options"}


def phrases(leaves: Iterable[Leaf], joint: str) -> list[str]:
    """Differences as phrases: ``learning rate 3, published learning rate 0.05``.

    Args:
        leaves: see :func:`differences`. What differs for the teacher as it does for the student
            is said once.
        joint: what stands between the two values, as ``", published "``.
    """
    leaves = list(leaves)
    own = {leaf.key for leaf in leaves if leaf.path[0] != TEACHER}
    shown = [f for f in leaves if f.path[0] != TEACHER or f.key[1:] not in own]
    found = []
    for path, group in _grouped(shown).items():
        teacher = "the teacher: " if path[0] == TEACHER else ""
        inner = path[1:] if path[0] == TEACHER else path
        words, ours = _side(inner, group, "ours")
        found.append(f"{teacher}{words}{ours}{joint}{_side(inner, group, 'theirs')[1]}")
    return list(dict.fromkeys(found))


def _grouped(leaves: list[Leaf]) -> dict[Path, list[Leaf]]:
    """Leaves by what is said of them together: a schedule is one thing, and so is augmentation."""
    groups: dict[Path, list[Leaf]] = {}
    for leaf in leaves:
        path = leaf.path
        for whole in ("schedule", "augment", "view"):
            if whole in path:
                path = path[: path.index(whole) + 1]
        groups.setdefault(path, []).append(leaf)
    return groups


def _side(path: Path, group: list[Leaf], side: str) -> tuple[str, str]:
    """What a group is about, and one side's values of it, in words."""
    values = {leaf.path[-1]: getattr(leaf, side) for leaf in group}
    value = next(iter(values.values()))
    name = path[-1]
    if list(values) == ["crop_padding"]:
        return "crops padded by ", str(value)
    if name in _WHOLE:
        return "", _WHOLE[name](values)
    if path == ("dataset", "size"):
        return "images ", "in full size" if value is None else f"of {value}×{value} pixels"
    if name == "epochs" and "first_stage" not in path and value != MISSING:
        return "", f"{value} epoch{'s' * (value != 1)}"
    words = " ".join(p.replace("_", " ") for p in path if p not in _SILENT)
    if path[0] == "dataset" and name in ("mean", "std"):
        words = f"normalised with {name}"
    if path[0] == "plugins":
        words = f"code of {name}"
    return f"{words} ", _value(value)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    words = {True: "true", False: "false", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _schedule(values: Mapping[str, Any]) -> str:
    names = {"step": "steps", "one_cycle": "a one-cycle schedule"}
    kind = values.get("type")
    milestones = values.get("milestones", MISSING)
    parts = [names.get(kind, f"a {kind} schedule")] if kind is not None else []
    if milestones != MISSING:
        parts = [f"steps at epochs {', '.join(map(str, milestones))}"]
    if kind is None:  # else it is another schedule altogether
        rest = {k: v for k, v in values.items() if k != "milestones"}
        parts += [f"the schedule's {k.replace('_', ' ')} {_value(v)}" for k, v in rest.items()]
    return ", ".join(parts)


def _augment(values: Mapping[str, Any]) -> str:
    parts = []
    for key, value in values.items():
        if key == "crop_padding":
            parts.append(f"crops padded by {value}")
        elif key == "flip":
            parts.append("flips" if value else "no flips")
        else:
            parts.append(f"{key.replace('_', ' ')} {_value(value)}")
    return " and ".join(parts)


def _view(values: Mapping[str, Any]) -> str:
    parts = [f"{k} {_value(v)}" for k, v in values.items() if v != MISSING]
    return f"a view of {', '.join(parts)}" if parts else "the whole image"


_WHOLE = {"schedule": _schedule, "augment": _augment, "view": _view}

__all__ = ["MISSING", "Leaf", "differences", "of_run", "phrases"]
