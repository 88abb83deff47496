"""Independent seeds for every purpose of a run."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for a purpose, e.g. ``derive(0, "order", epoch)``.

    Hashing rather than adding: neighbouring seeds and purposes share nothing.
    """
    text = "/".join(str(p) for p in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
