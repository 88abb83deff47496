"""The paths in a suite: relative to the suite's file, whatever the current folder is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from wcordbench.suite.base import Mistake
from wcordbench.suite.source import default_path, written

#: keys of a teacher that name a file
_OF_TEACHER = ("checkpoint", "pretrained")


def beside(suite: Path, path: str) -> Path:
    """What a path in a suite means: relative to the suite's file, ``~`` being the home folder.

    Raises:
        ValueError: there is no home folder of that name.
    """
    try:
        return Path(os.path.normpath(suite.parent.resolve() / Path(path).expanduser()))
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def resolve(suite: Path, data: dict[str, Any]) -> Mistake | None:
    """Make the paths of teachers' weights absolute; what is no path is left to the schema.

    Args:
        suite: the suite's file.
        data: its content, which is changed.

    Returns:
        What is wrong where a file is not there, but is at the same path below the current
        folder, which is where earlier versions looked.
    """
    pairs = data.get("pairs")
    for i, pair in enumerate(pairs if isinstance(pairs, list) else []):
        teacher = pair.get("teacher") if isinstance(pair, dict) else None
        if not isinstance(teacher, dict):
            continue
        for key in _OF_TEACHER:
            given, source = teacher.get(key), None
            if key == "checkpoint" and (given is True or isinstance(given, dict)):
                source = teacher[key] = written(given)
                given = default_path(source, teacher.get("model"))
            if not isinstance(given, str) or not given:
                continue
            at = ("pairs", i, "teacher", key)
            try:
                found = beside(suite, given)
                here = Path(given).absolute()
                fetched = source is not None and ("url" in source or "timm" in source)
                if not fetched and not found.exists() and here.exists():
                    return Mistake(
                        f": {found} does not exist, but {here} does; paths in a suite are relative"
                        " to its file: move the one to the other, or write the absolute path",
                        *at,
                    )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                return Mistake(f": {given!r} cannot be read ({reason})", *at)
            if source is None:
                teacher[key] = str(found)
            else:
                source["path"] = str(found)
    return None
