"""How quickly a cohort trains, and how long its epochs take."""

from __future__ import annotations

import time


class Pace:
    """Images per second, and when the next progress report is due.

    Args:
        every: seconds between reports.
    """

    def __init__(self, every: float = 0.5) -> None:
        self.every = every
        self.images, self.since = 0, time.monotonic()
        self.reported = self.since

    def count(self, images: int) -> None:
        """Add images that a run has trained on."""
        self.images += images

    def due(self) -> bool:
        """Whether the last report was long enough ago."""
        return time.monotonic() - self.reported >= self.every

    def rate(self) -> float:
        """Images a second over the last half minute or so, summed over runs."""
        now = time.monotonic()
        rate = self.images / max(now - self.since, 1e-9)
        self.reported = now
        if now - self.since > 30:
            self.images, self.since = 0, now
        return rate


class Clock:
    """Wall-clock seconds since the epoch began, across resumes: the cohort's, not one run's.

    Args:
        before: seconds that were spent before a resume.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before, self.since = before, time.monotonic()

    def split(self, keep: bool = False) -> float:
        """Seconds so far; starts anew unless ``keep``."""
        now = time.monotonic()
        total = self.before + now - self.since
        if not keep:
            self.before, self.since = 0.0, now
        return total


__all__ = ["Clock", "Pace"]
