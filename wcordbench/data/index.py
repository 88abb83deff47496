"""Which images a dataset holds on this machine, without reading them again.

A fingerprint needs every image. It is kept, in the user's cache folder, under what the file
system says of the dataset's files: their paths, sizes, inodes and times, that of the last change of
a file's content or place (ctime) among them, which no program can set. Whatever is replaced or
written to is read anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wcordbench import registry

#: fingerprints that are kept, the latest ones
MOST = 1000


def known(config: dict[str, Any], root: Path, whole: bool = False) -> str | None:
    """The fingerprint of a dataset whose files are those of an earlier reading, or None.

    Args:
        config: the ``dataset`` part of a run's configuration.
        root: the folder that holds datasets.
        whole: whether that of a run that cuts from whole images.
    """
    key = signature(config, root, whole)
    return None if key is None else _read().get(key)


def fingerprint_of(config: dict[str, Any], root: Path, whole: bool = False) -> str:
    """The fingerprint of a dataset, of which nothing is read, nor torch, where it is known.

    Args:
        config, root, whole: see :func:`known`.

    Raises:
        UserError: see :func:`wcordbench.data.base.load`.
    """
    found = known(config, root, whole)
    if found is not None:
        return found
    from wcordbench.data.base import fingerprinted

    return fingerprinted(config, root, whole)[1]


def remember(key: str | None, fingerprint: str) -> None:
    """Keep a fingerprint; where that cannot be written, the images are read next time."""
    if key is None:
        return
    file = _file()
    kept = {**_read(), key: fingerprint}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".fingerprints-", dir=file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(dict(list(kept.items())[-MOST:]), out)
        Path(name).replace(file)


def signature(config: dict[str, Any], root: Path, whole: bool = False) -> str | None:
    """What a dataset's fingerprint is kept under; None where its files are not known.

    The loader's registration says in ``reads`` which they are.

    Args:
        config, root, whole: see :func:`known`.
    """
    entry = registry.get("dataset", config["name"])
    patterns = entry.meta.get("reads")
    if patterns is None:
        return None
    # The order of a task's groups numbers the classes, and sorted keys do not tell it.
    order = list(config.get("task", {}).get("groups") or ())
    said = [config, order, whole, entry.version, entry.digest]
    h = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):  # how they are read
        h.update(_stated(file.name, file.stat()))
    named = {**entry.meta.get("preset", {}), **config["options"]}
    try:
        for pattern in patterns:
            for top in _matches(root, pattern, named):
                h.update(str(top.absolute()).encode())
                for path, stat in _walk(top):
                    h.update(_stated(path, stat))
    except (OSError, KeyError, ValueError, RecursionError):
        return None
    return h.hexdigest()


def _matches(root: Path, pattern: str, named: Mapping[str, Any]) -> list[Path]:
    pattern, _, beside = pattern.partition("/../")
    pattern = pattern.format_map(named)
    path = Path(pattern).expanduser()
    if path.is_absolute():
        found = [path]
    else:
        found = sorted(root.glob(pattern)) if "*" in pattern else [root / path]
    # As a loader finds it, by the path alone: through a link ".." leads elsewhere.
    return [path.parent / beside for path in found] if beside else found


def _walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file at or below a path, hidden ones left out, in one order."""
    if top.is_file():
        yield "", top.stat()
        return
    if not top.is_dir():
        return
    with os.scandir(top) as entries:
        found = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in found:
        if entry.is_dir():
            for path, stat in _walk(Path(entry.path)):
                yield f"{entry.name}/{path}", stat
        else:
            yield entry.name, entry.stat()


def _stated(path: str, stat: os.stat_result) -> bytes:
    facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return os.fsencode(f"\n{path}\0{facts}")


def _file() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "wcordbench" / "fingerprints.json"


def _read() -> dict[str, str]:
    try:
        kept = json.loads(_file().read_bytes())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in kept.items() if isinstance(v, str)} if isinstance(kept, dict) else {}


__all__ = ["known", "remember", "signature"]
