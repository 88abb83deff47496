"""The files of a user's own that a plugin imports: its text is theirs as well."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from wcordbench.errors import UserError

_INSTALLED = {"site-packages", "dist-packages"}
_PACKAGE = Path(__file__).parent


def own_imports(file: Path) -> dict[str, Path]:
    """The user's modules that a plugin imports, and what those import, by name.

    They are found beside the plugin, and else where Python finds them. What is installed, of the
    standard library or of this package is not the user's own; an import whose name is only
    computed when it runs is not seen.

    Args:
        file: the plugin.
    """
    found: dict[str, Path] = {}
    todo: list[tuple[str, Path]] = [("", file)]
    while todo:
        module, path = todo.pop()
        for name in _imported(module, path):
            for part, origin in _resolved(name, file.parent):
                if part not in found:
                    found[part] = origin
                    todo.append((part, origin))
    return found


def digest(file: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of a plugin's text and of all that it imports.

    Of the text alone where it imports nothing of the user's own.
    """
    h = hashlib.sha256(_text(file))
    for name, path in sorted(own_imports(file).items()):
        h.update(f"\0{name}\0".encode() + _text(path))
    return h.hexdigest()[:16]


def _text(file: Path) -> bytes:
    """The same on every system: line ends are as Python reads them."""
    return file.read_text(encoding="utf-8", errors="surrogateescape").encode(
        errors="surrogateescape"
    )


def parcel(file: Path) -> dict[str, bytes]:
    """A plugin and what it imports, by the path that makes them importable beside each other."""
    files = {file.name: file.read_bytes()}
    for name, path in own_imports(file).items():
        place = name.replace(".", "/")
        place += "/__init__.py" if path.name == "__init__.py" else ".py"
        files[place] = path.read_bytes()
    return files


@contextlib.contextmanager
def beside(file: Path) -> Iterator[None]:
    """Within it, and for what is imported later, a plugin finds the files of its folder.

    Raises:
        UserError: at the end, where an import has given another file of the same name.
    """
    own = own_imports(file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    yield
    for name, path in own.items():
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin is not None and Path(origin).resolve() != path:
            raise UserError(
                f"plugin {file} imports {name}, for which {path} is expected, but {origin} was"
                " imported before under that name; rename one of the two files"
            )


def forget(file: Path) -> None:
    """Undo what importing a plugin has imported, for tests."""
    for name, path in own_imports(file).items():
        module: ModuleType | None = sys.modules.get(name)
        if module is not None and getattr(module, "__file__", None) == str(path):
            del sys.modules[name]
    with contextlib.suppress(ValueError):
        sys.path.remove(str(file.parent))


def _imported(module: str, path: Path) -> Iterator[str]:
    """The full names that a file imports; of ``from a import b`` both a and a.b, if it is one."""
    try:
        tree = parsed(path, path.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # importing it says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, path)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if base)


@functools.cache
def parsed(file: Path, mtime_ns: int) -> ast.Module:  # noqa: ARG001
    """A file's syntax tree, parsed once as long as the file stays, in the encoding it declares.

    Raises:
        OSError: it cannot be read.
        SyntaxError, ValueError, RecursionError, MemoryError: it is not valid Python.
    """
    return ast.parse(file.read_bytes())


def absolute(node: ast.Import | ast.ImportFrom, module: str, path: Path) -> str:
    """The full name of the module that ``from … import`` names; empty for ``import``.

    Args:
        node: the statement.
        module: the full name of the file that it stands in, empty for a plugin.
        path: that file.
    """
    if isinstance(node, ast.Import):
        return ""
    base = node.module or ""
    if not node.level:
        return base
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join(filter(None, [*parts, base]))


def _resolved(name: str, folder: Path) -> list[tuple[str, Path]]:
    """The user's own files that importing a name runs: of each package on the way, and its own."""
    found: list[tuple[str, Path]] = []
    where: list[str] | None = [str(folder), *sys.path]
    parts = name.split(".")
    if not name or parts[0] in sys.stdlib_module_names or parts[0] == _PACKAGE.name:
        return []
    for i in range(len(parts)):
        full = ".".join(parts[: i + 1])
        try:
            spec = PathFinder.find_spec(full, where)
            if spec is None and i == 0:
                spec = importlib.util.find_spec(full)  # a hook of an editable installation
        except (ImportError, ValueError, AttributeError):
            return found
        if spec is None:
            return found
        origin = Path(spec.origin).resolve() if spec.origin and spec.has_location else None
        if origin is not None and origin.suffix == ".py" and is_own(origin):
            found.append((full, origin))
        locations = spec.submodule_search_locations
        if locations is None:
            return found
        where = list(locations)
    return found


def source_of(name: str, folder: Path) -> Path | None:
    """The file of a module of this package, or of the user's own; None for any other.

    Args:
        name: the module's full name.
        folder: of the file that imports it.
    """
    if name.partition(".")[0] == _PACKAGE.name:
        place = _PACKAGE.parent.joinpath(*name.split("."))
        files = [place.with_suffix(".py"), place / "__init__.py"]
        return next((f for f in files if f.is_file()), None)
    return dict(_resolved(name, folder)).get(name)


def is_own(file: Path) -> bool:
    """Whether a file is neither installed, nor of the standard library or of this package."""
    paths = sysconfig.get_paths()
    library = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib")]
    installed = _INSTALLED & set(file.parts) or any(file.is_relative_to(p) for p in library)
    return not installed and not file.is_relative_to(_PACKAGE)


__all__ = [
    "absolute", "beside", "digest", "forget", "is_own", "own_imports", "parcel", "parsed",
    "source_of",
]  # fmt: skip
