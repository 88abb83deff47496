"""Small records that carry a digest of themselves, so that a changed number shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wcordbench.suite.runs import digest

_KEY = "digest"


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its digest."""
    content = {key: value for key, value in record.items() if key != _KEY}
    return {**content, _KEY: digest(content)}


def changed(record: Mapping[str, Any]) -> str | None:
    """Why a record's scores cannot be those that were written, or None.

    A record without a digest is of an older version: of it the range alone is checked.
    """
    for name, value in record["scores"].items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 100:
            return f"its {name} is {value!r}"
    try:
        whole = _KEY not in record or sealed(record)[_KEY] == record[_KEY]
    except ValueError:  # a number that is none, which nothing here writes
        whole = False
    return None if whole else "it does not have the digest that it records"


__all__ = ["changed", "sealed"]
