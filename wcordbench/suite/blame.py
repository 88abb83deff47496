"""From pydantic's errors to sentences about keys of a suite's file."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from wcordbench import registry
from wcordbench.suite.base import SCHEDULES, Mistake, located, phrase
from wcordbench.suite.schema import MethodSpec, Suite

Location = tuple[str | int, ...]


def first(error: ValidationError, data: Any, root: type[BaseModel] = Suite) -> Mistake:
    """The mistake to report of several.

    Args:
        error: what the validation found.
        data: what was validated.
        root: by which model.
    """
    # An unknown key explains the missing one it was meant to be: name it first.
    order = {"extra_forbidden": 0, "missing": 2, "union_tag_not_found": 2}
    return _mistake(min(error.errors(), key=lambda e: order.get(e["type"], 1)), data, root)


def every(error: ValidationError, data: Any) -> list[Mistake]:
    """All mistakes of a suite."""
    return [_mistake(e, data, Suite) for e in error.errors()]


def sentence(mistake: Mistake, at: Location) -> str:
    """What is wrong, with the key at a path where the mistake does not name it itself."""
    told = mistake.message.startswith("unknown key")
    return mistake.message if told else located(mistake.message, at)


def _mistake(error: Any, data: Any, root: type[BaseModel]) -> Mistake:
    at = _without_tags(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        hint = registry.nearest(str(at[-1]), _fields_at(at[:-1], data, root))
        return Mistake(f"unknown key {'.'.join(str(p) for p in at)!r}{hint}", *at)
    if kind == "union_tag_invalid":
        at = (*at, "type")
    if isinstance(context.get("error"), Mistake):
        at = (*at, *context["error"].at)
    text = phrase(dict(error))
    if kind in ("model_type", "model_attributes_type") and _has_short_form(at):
        text = text.replace("a mapping", "a name or a mapping")
    return Mistake(text, *at)


def _has_short_form(at: Location) -> bool:
    return at == ("dataset",) or at[-1] == "teacher" or (len(at) == 2 and at[0] == "methods")


def _without_tags(loc: Location) -> Location:
    """A path in the file: without the names of the schedule's types, which pydantic adds."""
    kept = [
        part
        for i, part in enumerate(loc)
        if not (i and loc[i - 1] == "schedule" and part in SCHEDULES)
    ]
    return tuple(kept)


def written_part(at: Location, data: Any) -> Location:
    """The part of a path that the file spells out: ``teacher: x`` is ``teacher: {model: x}``."""
    for i, part in enumerate(at):
        if not isinstance(data, dict | list):
            return at[:i]
        data = item(data, part, {})
    return at


def item(data: Any, part: str | int, default: Any) -> Any:
    if isinstance(data, list) and isinstance(part, int):
        return data[part] if part < len(data) else default
    return data.get(part, default) if isinstance(data, dict) else default


def _fields_at(at: Location, data: Any, root: type[BaseModel]) -> list[str]:
    """The keys that the schema allows at a path."""
    return [n for m in fields_at(at, data, root) if m is not MethodSpec for n in m.model_fields]


def fields_at(at: Location, data: Any, root: type[BaseModel] = Suite) -> list[type[BaseModel]]:
    """The models, of which one is meant, of the mapping at a path."""
    annotation: Any = root
    for part in at:
        data = item(data, part, None)
        if isinstance(part, str):
            known = [m for m in _models(annotation) if part in m.model_fields]
            if not known:
                return []
            annotation = known[0].model_fields[part].annotation
    models = _models(annotation)
    if at and at[-1] == "schedule" and at[0] != "methods":  # only the type that the file names
        kind = data.get("type") if isinstance(data, dict) else None
        models = [m for m in models if m.model_fields["type"].default == kind]
    return models


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []
