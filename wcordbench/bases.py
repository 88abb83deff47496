"""What a class inherits, read from the source: neither its file nor its bases' is imported."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wcordbench.imports import absolute, parsed, source_of


@dataclass(frozen=True)
class _Source:
    """A file whose classes are looked at.

    Attributes:
        file: where it is.
        folder: of the plugin, beside which its imports are found; of the file itself where it
            is of this package.
        module: its full name, empty for a plugin itself.
    """

    file: Path
    folder: Path
    module: str = ""


def inherited(
    node: ast.ClassDef, file: Path, name: str, until: Path
) -> tuple[Path, ast.FunctionDef] | None:
    """A function of a class, or of the first of its bases that defines it.

    Args:
        node: the class.
        file: where it is.
        name: of the function.
        until: a file whose classes are not looked at.

    Returns:
        The file that defines it and its definition; None where none does, or where a base's
        source is not found.
    """
    for place, of in _lineage(node, _Source(file, file.parent), until, ()):
        for item in of.body:
            if isinstance(item, ast.FunctionDef) and item.name == name:
                return place, item
    return None


def _lineage(
    node: ast.ClassDef, source: _Source, until: Path, seen: tuple[ast.ClassDef, ...]
) -> Iterator[tuple[Path, ast.ClassDef]]:
    """A class and its bases, each before its own."""
    if node in seen or source.file == until:
        return
    yield source.file, node
    for base in node.bases:
        found = _class(source, ast.unparse(base), ())
        if found is not None:
            yield from _lineage(found[1], found[0], until, (*seen, node))


def _class(
    source: _Source, name: str, seen: tuple[tuple[Path, str], ...]
) -> tuple[_Source, ast.ClassDef] | None:
    """The class that a file knows by a name, which may begin with that of a module."""
    body: list[ast.stmt] = []
    key = source.file, name
    if key not in seen:
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            # importing it says what is wrong
            body = parsed(source.file, source.file.stat().st_mtime_ns).body
    for node in reversed(body):  # the last of a name counts
        if isinstance(node, ast.ClassDef) and node.name == name:
            return source, node
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        module = absolute(node, source.module, source.file)
        for alias in node.names:
            rest = _rest(name, alias.asname or alias.name)
            if alias.name == "*":
                target = f"{module}.{name}"
            elif rest is None:
                continue
            else:
                target = ".".join(filter(None, [module, alias.name, rest]))
            found = _elsewhere(target, source, (*seen, key))
            if found is not None or alias.name != "*":
                return found
    return None


def _rest(name: str, bound: str) -> str | None:
    """What follows a name that an import has bound; None where it is another."""
    if name == bound:
        return ""
    return name.removeprefix(f"{bound}.") if name.startswith(f"{bound}.") else None


def _elsewhere(
    target: str, source: _Source, seen: tuple[tuple[Path, str], ...]
) -> tuple[_Source, ast.ClassDef] | None:
    """The class of a full name: of the longest module that it begins with."""
    parts = target.split(".")
    for i in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:i])
        file = source_of(module, source.folder)
        if file is not None:
            return _class(_Source(file, source.folder, module), ".".join(parts[i:]), seen)
    return None


__all__ = ["inherited"]
