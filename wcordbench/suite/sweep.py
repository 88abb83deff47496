"""A list of values of a method's parameter, expanded into one method a value."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wcordbench import registry
from wcordbench.suite.base import Mistake


@dataclass(frozen=True)
class Swept:
    """Where a method of an expanded suite comes from.

    Attributes:
        number: of the method in the file.
        values: the parameters that the file sweeps, each with this method's value.
    """

    number: int
    values: tuple[tuple[str, Any], ...] = ()


def expand_sweeps(methods: list[Any]) -> tuple[list[Any], list[Swept]]:
    """Replace ``{name: x, p: {sweep: [a, b]}}`` by one method for each value of ``p``.

    What stands deeper is swept as well: ``train: {learning_rate: {sweep: [a, b]}}``. Several
    swept parameters give every combination. A row's label is the given one, or the method's
    name, with the values behind it.

    Raises:
        Mistake: a sweep is no list of different values.
    """
    expanded: list[Any] = []
    origins: list[Swept] = []
    for number, method in enumerate(methods):
        swept = {at: _values(v, number, at) for at, v in _sweeps(method)}
        names = _names(list(swept))
        for combination in itertools.product(*swept.values()):
            values = dict(zip(swept, combination, strict=True))
            named = tuple((names[at], value) for at, value in values.items())
            expanded.append(_row(method, values, named) if swept else method)
            origins.append(Swept(number, named))
    return expanded, origins


def _sweeps(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every mapping that has the key ``sweep``, and where it stands."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from [((*at, key), inner)] if "sweep" in inner else _sweeps(inner, (*at, key))


def _names(paths: list[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Paths as rows show them: without ``train``, where no other is mistaken for it."""
    short = {at: ".".join(at[1:] if at[0] == "train" else at) for at in paths}
    twice = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {at: ".".join(at) if name in twice else name for at, name in short.items()}


def _values(value: dict[str, Any], number: int, path: tuple[str, ...]) -> list[Any]:
    at: tuple[str | int, ...] = ("methods", number, *path)
    if set(value) != {"sweep"}:
        other = next(k for k in value if k != "sweep")
        raise Mistake(f"has the key {other!r} beside 'sweep'; leave it out", *at)
    values = value["sweep"]
    if not isinstance(values, list) or not values:
        raise Mistake("must be a list of values, one a run", *at, "sweep")
    if path in (("name",), ("label",)):
        raise Mistake(
            f"cannot be swept; write one method a {path[0]}, or sweep one of its options", *at
        )
    for i, item in enumerate(values):
        if isinstance(item, dict | list):
            raise Mistake("must be a single value", *at, "sweep", i)
        if item in values[:i]:
            raise Mistake(f": {item} stands in the sweep already; remove one", *at, "sweep", i)
    return values


def _row(
    method: dict[str, Any],
    values: dict[tuple[str, ...], Any],
    named: tuple[tuple[str, Any], ...],
) -> dict[str, Any]:
    """The method with its values and, behind its label, the values."""
    row = copy.deepcopy(method)
    for at, value in values.items():
        inner = row
        for key in at[:-1]:
            inner = inner[key]
        inner[at[-1]] = value
    title = method.get("label")
    if title is None:
        names = str(method.get("name", "")).split("+")
        known = registry.catalogue("method")
        title = "+".join(known[n].meta.get("title", n) if n in known else n for n in names)
    if isinstance(title, str):  # what is no text is left for the schema to refuse
        row["label"] = f"{title} ({', '.join(f'{key} = {value}' for key, value in named)})"
    return row


def in_file(at: tuple[str | int, ...], swept: list[Swept]) -> tuple[str | int, ...]:
    """The path in the file of a path in the expanded suite."""
    if len(at) > 1 and at[0] == "methods" and isinstance(at[1], int) and at[1] < len(swept):
        return ("methods", swept[at[1]].number, *at[2:])
    return at
