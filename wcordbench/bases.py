"""What a class inherits, read from the source: neither its file nor its bases' is imported."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from wcordbench.imports import source_of


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
    for place, of in _lineage(node, file, ()):
        if place != until:
            for item in of.body:
                if isinstance(item, ast.FunctionDef) and item.name == name:
                    return place, item
    return None


def _lineage(
    node: ast.ClassDef, file: Path, seen: tuple[ast.ClassDef, ...]
) -> Iterator[tuple[Path, ast.ClassDef]]:
    """A class and its bases, each before its own."""
    if node in seen:
        return
    yield file, node
    for base in node.bases:
        module, _, name = ast.unparse(base).rpartition(".")
        found = _class(file, module, name, ())
        if found is not None:
            yield from _lineage(found[1], found[0], (*seen, node))


def _class(
    file: Path, module: str, name: str, seen: tuple[Path, ...]
) -> tuple[Path, ast.ClassDef] | None:
    """The class that a file knows by a name, of a module where the name says one."""
    body: list[ast.stmt] = []
    if file not in seen:
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            body = parsed(file, file.stat().st_mtime_ns).body  # importing it says what is wrong
    for node in body:
        if isinstance(node, ast.ClassDef) and not module and node.name == name:
            return file, node
        if isinstance(node, ast.ImportFrom) and not node.level and not module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _elsewhere(node.module or "", alias.name, file, seen)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if module and (alias.asname or alias.name) == module:
                    return _elsewhere(alias.name, name, file, seen)
    return None


def _elsewhere(
    module: str, name: str, file: Path, seen: tuple[Path, ...]
) -> tuple[Path, ast.ClassDef] | None:
    source = source_of(module, file.parent)
    return None if source is None else _class(source, "", name, (*seen, file))


@functools.cache
def parsed(file: Path, mtime_ns: int) -> ast.Module:  # noqa: ARG001
    """A file's syntax tree, parsed once as long as the file stays.

    Raises:
        OSError: it cannot be read.
        SyntaxError, ValueError, RecursionError, MemoryError: it is not valid Python.
    """
    return ast.parse(file.read_text(encoding="utf-8-sig"))


__all__ = ["inherited", "parsed"]
