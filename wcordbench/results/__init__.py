"""What was trained: the run store, what it holds as numbers, and proof that it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wcordbench.results.frame import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``wcordbench --help`` need not wait for the store's pydantic."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wcordbench.results.frame import load

    return load
