"""What a loader may tell and ask: lines for the user, whether to download, to be alone."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from wcordbench.locks import file_lock


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_listener: contextvars.ContextVar[Callable[[str], None]] = contextvars.ContextVar(
    "wcordbench dataset listener", default=_to_stderr
)


def say(line: str) -> None:
    """Tell the user what takes long: a download, thousands of images to decode."""
    _listener.get()(line)


def warn(line: str) -> None:
    """Tell the user of what may be a mistake; where lines scroll by it is repeated at the end."""
    _listener.get()(WARNING + line)


#: what a line begins with that must not be overlooked
WARNING = "note: "


@contextlib.contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Within it :func:`say` calls ``listener``; outside, it prints to standard error."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


_offline: contextvars.ContextVar[bool] = contextvars.ContextVar("wcordbench offline", default=False)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Within it :func:`may_download` says no."""
    token = _offline.set(True)
    try:
        yield
    finally:
        _offline.reset(token)


def may_download() -> bool:
    """Whether a loader may fetch what is not there; if not, it raises a :class:`UserError`."""
    return not _offline.get()


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time, so that workers that start together prepare a dataset once.

    Where ``lock`` cannot be written (a read-only folder) nothing is locked: preparing twice
    costs time only, because whatever is written is renamed into place.
    """
    held = None
    with contextlib.suppress(OSError, NotImplementedError):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = file_lock(lock)
        held.acquire()
    try:
        yield
    finally:
        if held is not None:
            held.release()
