"""Printing that nothing depends on: training goes on when nobody reads its log."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from rich.console import Console


class Log(Console):
    """A console whose reader may leave and whose disk may be full.

    What cannot be written is lost, what can be written afterwards is written.
    """

    def print(self, *objects: Any, **how: Any) -> None:
        """As rich's, less the errors of the file that it writes to."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the file is closed
            super().print(*objects, **how)

    def on_broken_pipe(self) -> None:
        """Rich would end the process."""
        raise BrokenPipeError


def settle() -> None:
    """Let go of what cannot be written, so that the end of the process does not fail by it."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed at the start
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


__all__ = ["Log", "settle"]
