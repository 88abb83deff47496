"""What is printed, on streams that cannot take all of it: encodings, full disks, readers gone."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import sys
from typing import Any

#: ASCII for what this package prints itself where a terminal has no other
STAND_INS = {
    "–": "-", "—": "-", "−": "-", "±": "+-", "×": "x", "→": "->", "←": "<-", "·": ".", "…": "...",
    "Δ": "Delta", "λ": "lambda", "τ": "tau", "α": "alpha", "β": "beta", "γ": "gamma", "≥": ">=",
    "≤": "<=", "†": "+", "‡": "++", "“": '"', "”": '"', "‘": "'", "’": "'", "é": "e", "•": "*",
    "█": "#", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
#: of a write that failed because there is no room, or the device is gone
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def prepare(arguments: list[str]) -> None:
    r"""Let standard output and error take every character, whatever their encoding.

    What an encoding lacks is written in ASCII, or as its number: ``\u4e2d``, which JSON reads as
    the character. In JSON and CSV, which programs read, nothing has a stand-in.

    Args:
        arguments: of the command line.
    """
    exact = any(a in ("json", "csv", "--format=json", "--format=csv") for a in arguments)

    def ascii_for(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        text = error.object[error.start : error.end]
        return "".join(
            _number(c) if exact else STAND_INS.get(c, _number(c)) for c in text
        ), error.end

    codecs.register_error("wcordbench", ascii_for)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # None where it was closed at the start
            stream.reconfigure(errors="wcordbench")


def _number(c: str) -> str:
    code = ord(c)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)  # as JSON has it
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def flush() -> None:
    """Write what is still in standard output.

    Raises:
        OSError: it cannot be written.
    """
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def full(error: OSError) -> bool:
    """Whether a write to a stream failed for want of room: a file's error has its name."""
    return error.filename is None and error.errno in _FULL


def let_go() -> None:
    """Lose what cannot be written, so that the end of the process does not fail by it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, _descriptor(stream))
            finally:
                os.close(nowhere)


def _descriptor(stream: Any) -> int:
    """Of a stream that may have been wrapped."""
    return int(getattr(stream, "wrapped", stream).fileno())


__all__ = ["STAND_INS", "flush", "full", "let_go", "prepare"]
