"""``wcordbench table``."""

from __future__ import annotations


def command() -> None:
    """Print a suite's table."""
