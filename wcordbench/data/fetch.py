"""One file from the network, whole or not at all."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from pathlib import Path

from wcordbench.data.notes import may_download, say


def fetch(url: str, file: Path, md5: str, name: str) -> None:
    """Download a file unless a whole one is there; the user is told how far it is.

    Args:
        url: where it is.
        file: where it goes; it appears under this name only when it is whole.
        md5: of the whole file.
        name: of the dataset, for messages.

    Raises:
        OSError: no network, no such file, no space.
        http.client.HTTPException: the connection broke.
        RuntimeError: what came is not the file, or nothing may be downloaded.
    """
    if is_whole(file, md5):
        return
    if not may_download():
        raise RuntimeError("not now")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.parent / f".{name}.part"
    part.unlink(missing_ok=True)  # what a killed process left, or a link to elsewhere
    try:
        with urllib.request.urlopen(url, timeout=60) as response, part.open("xb") as stream:
            total = int(response.headers.get("Content-Length") or 0)
            say(f"{name}: downloading {url} ({total / 1e6:.0f} MB)")
            done, told = 0, time.monotonic()
            while chunk := response.read(1 << 20):
                stream.write(chunk)
                done += len(chunk)
                if time.monotonic() - told > 5:
                    told = time.monotonic()
                    say(f"{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")
        if not is_whole(part, md5):
            raise RuntimeError(f"{url} gave another file than expected")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    say(f"{name}: downloaded")


def is_whole(file: Path, md5: str) -> bool:
    """Whether a file is there and has the checksum."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == md5


def why(error: BaseException) -> str:
    """The first line of what went wrong, for a sentence."""
    lines = str(getattr(error, "reason", None) or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
