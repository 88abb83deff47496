"""The suites that come with wcordbench, by name: in a clone and in an installed wheel."""

from __future__ import annotations

import re
from pathlib import Path

from wcordbench import registry
from wcordbench.errors import UserError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def folder() -> Path:
    """Where the shipped suites are: inside the package in a wheel, beside it in a clone."""
    package = Path(__file__).parents[1]
    inside = package / "suites"
    return inside if inside.is_dir() else package.parent / "suites"


def nearby() -> Path:
    """Where a command looks that is given no suite: ``suites/`` here, else the shipped ones."""
    here = Path("suites")
    return here if here.is_dir() else folder()


def suites_in(place: Path) -> list[Path]:
    """The suites of a folder, by name; hidden files are an operating system's."""
    found = [p for p in place.glob("*.y*ml") if p.suffix in (".yaml", ".yml")]
    return sorted(p for p in found if not p.name.startswith("."))


def shipped() -> dict[str, Path]:
    """Every shipped suite's file by its name."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def resolve(path: Path) -> Path:
    """The file that a user means: a path, or the bare name of a shipped suite.

    Raises:
        UserError: the name is a shipped suite's, and a file here could be meant as well.
    """
    name = str(path)
    if not _NAME.fullmatch(name) or path.is_file():
        return path
    known = shipped()
    if name not in known:
        return path
    here = Path(f"{name}.yaml")
    if here.is_file() and here.read_bytes() != known[name].read_bytes():
        raise UserError(
            f"{name!r} names a suite that is shipped, and {here} here is another file; write"
            f" {here} for yours, or {known[name]} for the shipped one"
        )
    return known[name]


def unknown(path: Path) -> str:
    """What to say of a suite that does not exist: near files and shipped names."""
    folders = dict.fromkeys((path.parent, Path("suites")))
    near = [str(p) for folder in folders for p in sorted(folder.glob("*.y*ml"))]
    if _NAME.fullmatch(str(path)):
        near = [*shipped(), *near]
    return f"suite {path} does not exist{registry.nearest(str(path), near or shipped())}"


__all__ = ["folder", "nearby", "resolve", "shipped", "suites_in", "unknown"]
