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
import hashlib
import importlib
import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from wcordbench.errors import UserError

Kind = Literal["method", "model", "dataset"]
KINDS: tuple[Kind, ...] = ("method", "model", "dataset")
_PACKAGES: dict[Kind, str] = {"method": "methods", "model": "models", "dataset": "data"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_plugins: dict[Path, list[Entry]] = {}

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
    #: a method that declares a first stage of training
    two_stage: bool = False
    #: of the text of the file, 16 hexadecimal digits
    digest: str = ""

    @functools.cached_property
    def is_plugin(self) -> bool:
        """Whether the file is not of this package."""
        return not self.file.is_relative_to(Path(__file__).parent)

    def load(self) -> Any:
        """Import the defining file and return the registered class or function."""
        return getattr(_import_file(self.file), self.qualname)


def _mark(obj: T) -> T:
    return obj


def register_model(name: str, **preset: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register an architecture; ``preset`` is passed to its constructor.

    The constructor is called as ``cls(num_classes=…, in_channels=…, image_size=…, **preset)``.
    Stack the decorator to register several sizes of one family.
    """
    return _mark


def register_method(name: str, **meta: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register a distillation method (see :class:`wcordbench.methods.base.Method`).

    ``meta``: ``title`` (as printed in tables), ``paper``, and the default weights
    ``gamma`` (cross entropy), ``alpha`` (KD when combined with ``+kd``) and ``beta``
    (the method's own loss). Keyword-only arguments of ``__init__`` are its options; a class
    that defines ``first_stage`` has one, and one that inherits it says ``two_stage=True``.
    ``added``: names of options that came after runs of the method were stored; at their
    defaults they are no part of a run's identity (for datasets, too).
    """
    return _mark


def register_dataset(name: str, **meta: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register a dataset loader (see :mod:`wcordbench.data`).

    ``meta``: ``title``, and where they are the same for all options ``classes``, ``size``
    (pixels a side), ``channels`` and ``images`` (of the training set), so that a suite can
    be checked without the data. Keyword-only arguments of the function are its options.
    ``preset``: other arguments of the function, so that one serves several names: stack the
    decorator. ``added``: the options that the function did not always have; a run's
    configuration names them only where they are not at their default.
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
        UserError: there is no such file, it is not valid Python, it registers nothing, or it
            registers a name that exists.
    """
    path = Path(path)
    what = "does not exist"
    try:
        path = path.resolve()
        what = "" if path.is_file() else "is a folder" if path.is_dir() else what
    except (OSError, ValueError):  # a name too long, a NUL in it
        pass
    if what:
        raise UserError(f"plugin {path} {what}; give the path of a Python file")
    if path in _plugins:
        return
    entries = _scan(path)
    if not entries:
        raise UserError(
            f"plugin {path} registers nothing; decorate a class or function at its top level"
            f" with {', '.join(list(_DECORATORS)[:-1])} or {list(_DECORATORS)[-1]}"
        )
    own: dict[tuple[Kind, str], Entry] = {}
    for entry in entries:
        known = own.get((entry.kind, entry.name)) or catalogue(entry.kind).get(entry.name)
        if known is not None:
            raise UserError(
                f"plugin {path} registers the {entry.kind} {entry.name!r}, which"
                f" {_shown(known.file)} registers already; rename it"
            )
        own[entry.kind, entry.name] = entry
    _plugins[path] = entries
    catalogue.cache_clear()


def plugins() -> tuple[Path, ...]:
    """The files added, in order: what another process must add to know the same names."""
    return tuple(_plugins)


def forget_plugins() -> None:
    """Undo every :func:`add_plugin`, for tests."""
    for path in _plugins:
        sys.modules.pop(_module_name(path), None)
    _plugins.clear()
    catalogue.cache_clear()


@functools.cache
def catalogue(kind: Kind) -> dict[str, Entry]:
    """Every registered definition of a kind by name, in the order of file and line."""
    folder = Path(__file__).parent / _PACKAGES[kind]
    scanned = [_scan(file) for file in sorted(folder.glob("*.py"))]
    found: dict[str, Entry] = {}
    for entries in [*scanned, *_plugins.values()]:
        for entry in entries:
            if entry.kind != kind:
                continue
            if entry.name in found:
                raise UserError(
                    f"{kind} {entry.name!r} is registered in both"
                    f" {_shown(found[entry.name].file)} and {_shown(entry.file)};"
                    " rename one of them"
                )
            found[entry.name] = entry
    return found


def _shown(file: Path) -> str:
    package = Path(__file__).parent
    return str(file.relative_to(package.parent) if file.is_relative_to(package) else file)


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
    names = list(dict.fromkeys(names))
    if not names:
        return ""
    folded: dict[str, str] = {}
    for valid in names:
        folded.setdefault(valid.casefold(), valid)
    wanted = str(name)[:100].casefold()
    matches = difflib.get_close_matches(wanted, folded, n=len(folded), cutoff=0.5)
    if matches:

        def closeness(match: str) -> tuple[float, int]:
            ratio = difflib.SequenceMatcher(None, match, wanted).ratio()
            pairs = zip(match, wanted, strict=False)
            return ratio, sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))

        return f"; did you mean {folded[max(matches, key=closeness)]!r}?"
    return f"; valid: {', '.join(names)}"


# --- reading definitions without importing them ---------------------------------

_TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple,
    "dict": dict, "None": None, "Literal": Literal, "Any": Any, "Path": str,
}  # fmt: skip


def _scan(file: Path) -> list[Entry]:
    return _scan_cached(file, file.stat().st_mtime_ns)


@functools.cache
def _scan_cached(file: Path, mtime_ns: int) -> list[Entry]:  # noqa: ARG001
    try:
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except SyntaxError as error:
        raise UserError(
            f"{_shown(file)} line {error.lineno} is not valid Python: {error.msg}"
        ) from None
    except OSError as error:
        raise UserError(f"{_shown(file)} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # not text, or nested too deeply
        reason = str(error) or type(error).__name__
        raise UserError(f"{_shown(file)} is not valid Python: {reason}") from None
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            name = getattr(decorator.func, "id", getattr(decorator.func, "attr", ""))
            if name in _DECORATORS:
                entry = _entry(file, node, decorator, _DECORATORS[name])
                entries.append(replace(entry, digest=digest))
    return entries


def _entry(
    file: Path, node: ast.ClassDef | ast.FunctionDef, decorator: ast.Call, kind: Kind
) -> Entry:
    where = f"{_shown(file)} line {decorator.lineno}"
    try:
        (name,) = (ast.literal_eval(a) for a in decorator.args)
        meta = {str(k.arg): ast.literal_eval(k.value) for k in decorator.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise UserError(
            f'{where}: write register_{kind}("name", key=value, …) with literal values;'
            " the file is read before it is imported"
        ) from None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: {name!r} cannot be a {kind}'s name; use letters, digits, '_', '-' and '.'"
        )
    init: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    two_stage = bool(meta.get("two_stage", False))
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                init = item
            elif isinstance(item, ast.FunctionDef) and item.name == "first_stage":
                two_stage = True
    doc = (ast.get_docstring(node) or "").strip().splitlines()
    summary = doc[0] if doc else ""
    return Entry(kind, name, file, node.name, summary, meta, _options(file, init), two_stage)


def _options(file: Path, init: ast.FunctionDef | None) -> dict[str, Option]:
    options: dict[str, Option] = {}
    if init is None:
        return options
    for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        source = ast.unparse(arg.annotation) if arg.annotation else "Any"
        if isinstance(arg.annotation, ast.Constant) and isinstance(arg.annotation.value, str):
            source = arg.annotation.value  # an annotation in quotes
        try:
            annotation = eval(source, {"__builtins__": {}}, dict(_TYPES))
            value = None if default is None else ast.literal_eval(default)
        except Exception:
            raise UserError(
                f"{_shown(file)} line {arg.lineno}: option {arg.arg!r} needs a plain type and a"
                " literal default"
            ) from None
        options[arg.arg] = Option(arg.arg, annotation, value, default is None)
    return options


def _module_name(file: Path) -> str:
    """The same in every process, so that what a plugin defines can be pickled."""
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    return f"wcordbench_plugin_{file.stem}_{digest}"


def _import_file(file: Path) -> Any:
    package = Path(__file__).parent
    if file.is_relative_to(package):
        parts = file.relative_to(package.parent).with_suffix("").parts
        return importlib.import_module(".".join(parts))
    name = _module_name(file)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise UserError(f"plugin {file} is not a Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"plugin {file} fails when imported: {reason}") from error
    return sys.modules[name]


def option_model(entry: Entry) -> dict[str, tuple[Any, Any]]:
    """The options as pydantic field definitions: name to (type, default)."""
    return {
        o.name: (o.annotation, ... if o.required else o.default) for o in entry.options.values()
    }


__all__ = [
    "KINDS", "Entry", "Kind", "Option", "add_plugin", "catalogue", "forget_plugins", "get",
    "nearest", "option_model", "plugins", "register_dataset", "register_method",
    "register_model",
]  # fmt: skip
