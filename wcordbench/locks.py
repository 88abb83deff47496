"""Locks that the operating system gives back when a process ends, however it ends."""

from __future__ import annotations

from pathlib import Path

import filelock


def file_lock(path: Path) -> filelock.BaseFileLock:
    """A lock on a file, not yet acquired.

    Where the file system has none, acquiring it raises OSError or NotImplementedError. Later
    versions of filelock would take the file's existence for a lock there, which stays when its
    holder's machine dies.
    """
    try:
        return filelock.FileLock(path, fallback_to_soft=False)
    except TypeError:  # an earlier version, which has no such choice
        return filelock.FileLock(path)


__all__ = ["file_lock"]
