"""A download of known content that survives whatever the network does."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock

from wcordbench.errors import UserError

CHUNK = 1 << 18
#: seconds without a byte, after which the server is given up
TIMEOUT = 30.0
#: seconds between two lines that say how far it is
TELL = 5.0
#: more than any teacher's weights
LARGEST = 20_000_000_000


class _Broken(Exception):  # noqa: N818
    """Why a download stopped, and what to do about it."""


def download(
    url: str, file: Path, sha256: str, say: Callable[[str], None], timeout: float | None = None
) -> bool:
    """Get a file unless it is there; it appears under its name only when it is whole.

    What a broken download left is kept beside it and continued.

    Args:
        url: where it is.
        file: where it goes.
        sha256: of the whole file, in hexadecimal.
        say: told how far it is.
        timeout: seconds without a byte, after which it is given up.

    Returns:
        Whether anything was downloaded.

    Raises:
        UserError: it cannot be had; one sentence says why, and what to do.
    """
    part = file.with_name(f".{file.name}.{sha256[:8]}.part")
    try:
        if file.is_dir():
            raise UserError(f"{file} is a folder; give the teacher another path")
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_name(f".{file.name}.lock"), blocking=False):
            return _download(url, file, part, sha256, say, timeout or TIMEOUT)
    except filelock.Timeout:
        raise UserError(f"{file} is being downloaded by another process; wait for it") from None
    except _Broken as broken:
        raise UserError(f"{url}: {broken}") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror or error})") from None


def _download(
    url: str, file: Path, part: Path, sha256: str, say: Callable[[str], None], timeout: float
) -> bool:
    if file.is_file():
        if digest(file) == sha256:
            return False
        raise UserError(
            f"{file} is there and has another SHA-256 than the suite gives; delete or move it, or"
            " correct the suite"
        )
    if part.is_symlink():  # a link to elsewhere
        part.unlink()
    if not (part.is_file() and digest(part) == sha256):  # whole, but not renamed before a crash
        begun = part.stat().st_size if part.is_file() else 0
        _fill(url, part, begun, say, timeout)
        found = digest(part)
        if found != sha256 and begun:  # what was there may have been of an older file
            say(f"{url}: what an earlier download left does not fit; beginning anew")
            part.unlink()
            _fill(url, part, 0, say, timeout)
            found = digest(part)
        if found != sha256:
            part.unlink()
            raise _Broken(
                f"its SHA-256 is {found}, the suite gives {sha256}; nothing was kept: correct the"
                " suite, or ask whoever offers the file"
            )
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(file)
    return True


def _fill(url: str, part: Path, begun: int, say: Callable[[str], None], timeout: float) -> None:
    """Download what is missing of a part.

    Raises:
        _Broken: it did not come to the end.
    """
    response = _open(url, begun, timeout)
    if response is None:  # nothing is left to send: the part is whole, or longer than the file
        return
    with response:
        begun = begun if response.status == http.client.PARTIAL_CONTENT else 0
        length = response.headers.get("Content-Length") or ""
        total = begun + int(length) if length.isdigit() else None
        size = "" if total is None else f" of {total / 1e6:.1f} MB"
        say(f"{url}: {f'continuing at {begun / 1e6:.1f}' if begun else 'downloading'}{size}")
        done, told = begun, time.monotonic()
        kept = "what came is kept; run the command again to continue"
        with part.open("r+b" if begun else "wb") as stream:
            stream.seek(begun)
            while True:
                try:
                    chunk = response.read1(CHUNK)
                except TimeoutError:
                    raise _Broken(f"nothing came for {timeout:.0f} s; {kept}") from None
                except (OSError, http.client.HTTPException) as error:
                    raise _Broken(
                        f"the connection broke after {done / 1e6:.1f} MB ({_reason(error)}); {kept}"
                    ) from None
                if not chunk:
                    break
                stream.write(chunk)
                done += len(chunk)
                if done > LARGEST:
                    raise _Broken(f"it is larger than {LARGEST / 1e9:.0f} GB, as no teacher is")
                if time.monotonic() - told > TELL:
                    told = time.monotonic()
                    say(f"{url}: {done / 1e6:.1f}{size}")
            stream.truncate()
    if total is not None and done < total:
        raise _Broken(f"the connection was cut after {done / 1e6:.1f}{size}; {kept}")


def _open(url: str, begun: int, timeout: float) -> Any:
    """The response from byte ``begun`` on, or from the first; None where there are no more.

    Raises:
        _Broken: there is none that can be used.
    """
    headers = {"User-Agent": "wcordbench", "Accept-Encoding": "identity"}
    if begun:
        headers["Range"] = f"bytes={begun}-"
    later = "try again later"
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and begun:
            return None
        advice = later if error.code >= 500 or error.code == 429 else "correct the suite's url"
        what = http.client.responses.get(error.code, "no status of HTTP")
        raise _Broken(f"the server answers {error.code} ({what}); {advice}") from None
    except TimeoutError:
        raise _Broken(f"the server does not answer within {timeout:.0f} s; {later}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | socket.timeout):
            raise _Broken(f"the server does not answer within {timeout:.0f} s; {later}") from None
        raise _Broken(f"it cannot be reached ({_reason(error.reason)}); {later}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the server gives no valid answer ({_reason(error)}); {later}") from None
    except ValueError as error:
        raise _Broken(f"it is no address ({error}); correct the suite's url") from None
    if response.status == http.client.PARTIAL_CONTENT:
        given = (response.headers.get("Content-Range") or "").removeprefix("bytes ")
        if not given.startswith(f"{begun}-"):
            response.close()
            return _open(url, 0, timeout)  # it sends another part than was asked for
    return response


def _reason(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error)
    lines = str(text).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


__all__ = ["digest", "download"]
