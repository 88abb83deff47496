"""How much memory a dataset may take."""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIB = 1 << 30
#: of what is free, for the datasets of all processes together
SHARE = 0.5

_given: contextvars.ContextVar[float | None] = contextvars.ContextVar(
    "wcordbench memory of a dataset", default=None
)


_keep: contextvars.ContextVar[bool] = contextvars.ContextVar("wcordbench keep", default=False)
_most: contextvars.ContextVar[float] = contextvars.ContextVar("wcordbench most", default=math.inf)


@contextlib.contextmanager
def allowing(
    gib: float | None, keep: bool = False, device: torch.device | None = None
) -> Iterator[None]:
    """Within it a dataset may take so many GiB; None is ``auto``.

    Args:
        gib: of memory.
        keep: whether training images that do not fit are kept on disk as they are read.
        device: that images in memory are copied to; ``auto`` is then at most half of what is
            free on it.
    """
    most = _most.get()
    if device is not None and device.type == "cuda":
        import torch

        most = SHARE * torch.cuda.mem_get_info(device)[0]
    given, kept, capped = _given.set(gib), _keep.set(keep), _most.set(most)
    try:
        yield
    finally:
        _given.reset(given)
        _keep.reset(kept)
        _most.reset(capped)


def keeping() -> bool:
    """Whether training images that do not fit are kept on disk."""
    return _keep.get()


def given() -> float | None:
    """The GiB that the user allows; None is ``auto``."""
    return _given.get()


def allowed() -> int:
    """Bytes that the dataset of this process may take.

    ``auto`` is half of what is free, shared by as many processes as the cores hold with this
    one's number of threads; and no more than a device has room for, see :func:`allowing`.
    """
    gib = given()
    if gib is not None:
        return int(gib * GIB)
    import torch

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    processes = max(1, cores // max(1, torch.get_num_threads()))
    return int(min(SHARE * free() / processes, _most.get()))


def free() -> int:
    """Bytes of memory that can be had: of the machine, and of the container around this process."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable"))
        found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # control groups, version 2
        root = Path("/sys/fs/cgroup")
        limit = int((root / "memory.max").read_text())
        found.append(limit - int((root / "memory.current").read_text()))
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return max(0, min(found, default=4 * GIB))
