"""Suites: YAML in, runs out. Nothing in this package imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wcordbench.suite.load import load_suite as load_suite
    from wcordbench.suite.runs import Run as Run
    from wcordbench.suite.runs import expand as expand
    from wcordbench.suite.schema import Suite as Suite

_HOMES = {"load_suite": "load", "Run": "runs", "expand": "runs", "Suite": "schema"}


def __getattr__(name: str) -> Any:
    """Import on first use: ``wcordbench --help`` need not wait for pydantic."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
