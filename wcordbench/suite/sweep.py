"""A list of values of a method's parameter, expanded into one method a value."""

from __future__ import annotations

import itertools
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

    Several swept parameters give every combination. A row's label is the given one, or the
    method's name, with the values behind it.

    Raises:
        Mistake: a sweep is no list of different values.
    """
    expanded: list[Any] = []
    origins: list[Swept] = []
    for number, method in enumerate(methods):
        swept: dict[str, list[Any]] = {}
        for key, value in method.items() if isinstance(method, dict) else ():
            if isinstance(value, dict) and "sweep" in value:
                swept[key] = _values(value, number, key)
        for combination in itertools.product(*swept.values()):
            values = tuple(zip(swept, combination, strict=True))
            expanded.append(_row(method, values) if swept else method)
            origins.append(Swept(number, values))
    return expanded, origins


def _values(value: dict[str, Any], number: int, key: str) -> list[Any]:
    at = ("methods", number, key)
    if set(value) != {"sweep"}:
        other = next(k for k in value if k != "sweep")
        raise Mistake(f"has the key {other!r} beside 'sweep'; leave it out", *at)
    values = value["sweep"]
    if not isinstance(values, list) or not values:
        raise Mistake("must be a list of values, one a run", *at, "sweep")
    if key in ("name", "label"):
        raise Mistake(
            f"cannot be swept; write one method a {key}, or sweep one of its options", *at
        )
    for i, item in enumerate(values):
        if isinstance(item, dict | list):
            raise Mistake("must be a single value", *at, "sweep", i)
        if item in values[:i]:
            raise Mistake(f": {item} stands in the sweep already; remove one", *at, "sweep", i)
    return values


def _row(method: dict[str, Any], values: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """The method with its values and, behind its label, the values."""
    row = {**method, **dict(values)}
    title = method.get("label")
    if title is None:
        names = str(method.get("name", "")).split("+")
        known = registry.catalogue("method")
        title = "+".join(known[n].meta.get("title", n) if n in known else n for n in names)
    if isinstance(title, str):  # what is no text is left for the schema to refuse
        row["label"] = f"{title} ({', '.join(f'{key} = {value}' for key, value in values)})"
    return row


def in_file(at: tuple[str | int, ...], swept: list[Swept]) -> tuple[str | int, ...]:
    """The path in the file of a path in the expanded suite."""
    if len(at) > 1 and at[0] == "methods" and isinstance(at[1], int) and at[1] < len(swept):
        return ("methods", swept[at[1]].number, *at[2:])
    return at
