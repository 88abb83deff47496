"""wcordbench: a benchmark suite for knowledge distillation around WCoRD (CVPR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wcordbench.training.deploy import load_student as load_student

__version__ = "0.1.0"
__all__ = ["__version__", "load_student"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``wcordbench --help`` need not wait for torch."""
    if name != "load_student":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wcordbench.training.deploy import load_student

    return load_student
