"""What exists — methods, models, datasets — known without importing torch.

A definition registers itself with a decorator in its own file::

    @register_model("resnet20", blocks=3)
    class ResNet(nn.Module): ...

The decorator's arguments and the signature of ``__init__`` are read from the source
with :mod:`ast`, so that ``--help``, ``validate`` and ``table`` know every name, option
and default in milliseconds; the file itself is imported on first use only. That is why
the decorators' arguments and the options' defaults must be literals.

Files outside the package are added with :func:`add_plugin` (``plugins:`` in a suite).
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from wcordbench.errors import UserError

Kind = Literal["method", "model", "dataset"]
KINDS: tuple[Kind, ...] = ("method", "model", "dataset")
_PACKAGES: dict[Kind, str] = {"method": "methods", "model": "models", "dataset": "data"}
_plugins: list[Path] = []

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """One keyword-only argument of a registered definition: what a suite may set."""

    name: str
    annotation: Any
    default: Any
    required: bool = False


@dataclass(frozen=True)
class Entry:
    """A registered name and everything known of it without importing its file."""

    kind: Kind
    name: str
    file: Path
    qualname: str
    summary: str
    #: literal keyword arguments of the decorator
    meta: dict[str, Any] = field(default_factory=dict)
    #: keyword-only arguments of the constructor that a suite may set
    options: dict[str, Option] = field(default_factory=dict)

    def load(self) -> Any:
        """Import the defining file and return the registered class or function."""
        return getattr(_import_file(self.file), self.qualname)


def _mark(obj: T) -> T:
    return obj


def register_model(name: str, **preset: Any) -> Callable[[T], T]:
    """Register an architecture; ``preset`` is passed to its constructor.

    The constructor is called as ``cls(num_classes=…, in_channels=…, image_size=…, **preset)``.
    Stack the decorator to register several sizes of one family.
    """
    return _mark


def register_method(name: str, **meta: Any) -> Callable[[T], T]:
    """Register a distillation method (see :class:`wcordbench.methods.base.Method`).

    ``meta``: ``title`` (as printed in tables), ``paper``, and the default weights
    ``gamma`` (cross entropy), ``alpha`` (KD when combined with ``+kd``) and ``beta``
    (the method's own loss). Keyword-only arguments of ``__init__`` are its options.
    """
    return _mark


def register_dataset(name: str, **meta: Any) -> Callable[[T], T]:
    """Register a dataset loader (see :mod:`wcordbench.data`).

    ``meta``: ``title``. Keyword-only arguments of the function are its options.
    """
    return _mark


_DECORATORS: dict[str, Kind] = {
    "register_model": "model",
    "register_method": "method",
    "register_dataset": "dataset",
}


def add_plugin(path: str | Path) -> None:
    """Make the definitions in a Python file outside the package known.

    Raises:
        UserError: the file does not exist or is not valid Python.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise UserError(f"plugin {path} does not exist; give the path of a Python file")
    if path not in _plugins:
        _scan(path)
        _plugins.append(path)
        catalogue.cache_clear()


@functools.cache
def catalogue(kind: Kind) -> dict[str, Entry]:
    """Every registered definition of a kind by name, in the order of file and line."""
    folder = Path(__file__).parent / _PACKAGES[kind]
    found: dict[str, Entry] = {}
    for file in [*sorted(folder.glob("*.py")), *_plugins]:
        for entry in _scan(file):
            if entry.kind != kind:
                continue
            if entry.name in found:
                raise UserError(
                    f"{kind} {entry.name!r} is registered in both {found[entry.name].file}"
                    f" and {entry.file}; rename one of them"
                )
            found[entry.name] = entry
    return found


def get(kind: Kind, name: str) -> Entry:
    """Look a name up.

    Raises:
        UserError: no such name; the message suggests the nearest one.
    """
    entries = catalogue(kind)
    if name not in entries:
        raise UserError(f"unknown {kind} {name!r}{nearest(name, entries)}")
    return entries[name]


def nearest(name: str, names: Iterable[str]) -> str:
    """A suggestion to append to an error message: the nearest valid name, or all of them."""
    names = list(names)
    match = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return f"; valid: {', '.join(names)}"


# --- reading definitions without importing them ---------------------------------

_TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple,
    "dict": dict, "None": None, "Literal": Literal, "Any": Any, "Path": str,
}  # fmt: skip


def _scan(file: Path) -> list[Entry]:
    return _scan_cached(file, file.stat().st_mtime_ns)


@functools.cache
def _scan_cached(file: Path, mtime_ns: int) -> list[Entry]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid Python: {error}") from None
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            name = getattr(decorator.func, "id", getattr(decorator.func, "attr", ""))
            if name in _DECORATORS:
                entries.append(_entry(file, node, decorator, _DECORATORS[name]))
    return entries


def _entry(
    file: Path, node: ast.ClassDef | ast.FunctionDef, decorator: ast.Call, kind: Kind
) -> Entry:
    try:
        name = ast.literal_eval(decorator.args[0])
        meta = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords if k.arg}
    except (ValueError, IndexError):
        raise UserError(
            f"{file}:{decorator.lineno}: arguments of the register decorator must be literals"
        ) from None
    init: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                init = item
    doc = (ast.get_docstring(node) or "").strip().splitlines()
    return Entry(kind, name, file, node.name, doc[0] if doc else "", meta, _options(file, init))


def _options(file: Path, init: ast.FunctionDef | None) -> dict[str, Option]:
    options: dict[str, Option] = {}
    if init is None:
        return options
    for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        source = ast.unparse(arg.annotation) if arg.annotation else "Any"
        try:
            annotation = eval(source, {"__builtins__": {}}, dict(_TYPES))
            value = None if default is None else ast.literal_eval(default)
        except Exception:
            raise UserError(
                f"{file}:{arg.lineno}: option {arg.arg!r} needs a plain type and a literal default"
            ) from None
        options[arg.arg] = Option(arg.arg, annotation, value, default is None)
    return options


def _import_file(file: Path) -> Any:
    package = Path(__file__).parent
    if file.is_relative_to(package):
        parts = file.relative_to(package.parent).with_suffix("").parts
        return importlib.import_module(".".join(parts))
    name = f"wcordbench_plugin_{file.stem}_{abs(hash(str(file))):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def option_model(entry: Entry) -> dict[str, tuple[Any, Any]]:
    """The options as pydantic field definitions: name to (type, default)."""
    return {
        o.name: (o.annotation, ... if o.required else o.default) for o in entry.options.values()
    }


__all__ = [
    "KINDS", "Entry", "Kind", "Option", "add_plugin", "catalogue", "get", "nearest",
    "option_model", "register_dataset", "register_method", "register_model",
]  # fmt: skip
