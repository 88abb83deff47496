"""What a file defines, read from its source with :mod:`ast`: nothing is imported here.

See :mod:`wcordbench.registry` for what is done with it.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import itertools
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wcordbench import options as option_types
from wcordbench.bases import inherited
from wcordbench.errors import UserError
from wcordbench.imports import beside, digest, parsed

Kind = Literal["method", "model", "dataset"]
KINDS: tuple[Kind, ...] = ("method", "model", "dataset")
DECORATORS: dict[str, Kind] = {
    "register_model": "model",
    "register_method": "method",
    "register_dataset": "dataset",
}
PACKAGE = Path(__file__).parent
#: the base of all methods: it has no option, and no first stage
_METHOD = PACKAGE / "methods" / "base.py"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: what a suite says of any method: an option of such a name would never be reached
RESERVED = ("name", "label", "gamma", "alpha", "beta", "schedule", "lr_factor", "train")


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
    #: of a plugin's text and of what it imports of the user's own, 16 hexadecimal digits
    digest: str = ""
    #: raised when the numbers that it gives change
    version: int = 1

    @functools.cached_property
    def is_plugin(self) -> bool:
        """Whether the file is not of this package."""
        return not self.file.is_relative_to(PACKAGE)

    def load(self) -> Any:
        """Import the defining file and return the registered class or function.

        Raises:
            UserError: it cannot be imported, or a method takes an argument that its source, and
                with it no suite and no run's identity, does not show.
        """
        found = getattr(import_file(self.file, self.digest), self.qualname)
        if self.kind == "method":
            self._check_read(found)
        return found

    def _check_read(self, found: Any) -> None:
        parameters = list(inspect.signature(found.__init__).parameters.values())[2:]
        for parameter in parameters:
            several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if parameter.name not in self.options and not several:
                raise UserError(
                    f"{shown(self.file)}: {self.qualname} takes {parameter.name!r}, which reading"
                    " the file does not show; import its base by name at the top of the file, or"
                    f" define __init__ in {self.qualname} with its options"
                )

    def arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        """Options as a run's configuration holds them, as arguments: JSON has no tuples."""
        return {name: self._typed(name, value) for name, value in options.items()}

    def _typed(self, name: str, value: Any) -> Any:
        option = self.options.get(name)
        if option is None or not isinstance(value, list):
            return value
        if "tuple" not in str(option.annotation):
            return tuple(value) if isinstance(option.default, tuple) else value
        from pydantic import TypeAdapter

        return TypeAdapter(option.annotation).validate_python(value)


def shown(file: Path) -> str:
    """A file as a message names it."""
    return str(file.relative_to(PACKAGE.parent) if file.is_relative_to(PACKAGE) else file)


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


# --- reading --------------------------------------------------------------------

_TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple,
    "dict": dict, "None": None, "Literal": Literal, "Any": Any, "Path": str,
    **{name: getattr(option_types, name) for name in option_types.__all__},
}  # fmt: skip


def scan(file: Path) -> list[Entry]:
    """Everything that a file registers at its top level.

    Raises:
        UserError: the file is not valid Python, or a registration is not one.
    """
    return _scan(file, file.stat().st_mtime_ns)


@functools.cache
def _scan(file: Path, mtime_ns: int) -> list[Entry]:
    try:
        tree = parsed(file, mtime_ns)
    except SyntaxError as error:
        raise UserError(
            f"{shown(file)} line {error.lineno} is not valid Python: {error.msg}"
        ) from None
    except OSError as error:
        raise UserError(f"{shown(file)} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # not text, or nested too deeply
        reason = str(error) or type(error).__name__
        raise UserError(f"{shown(file)} is not valid Python: {reason}") from None
    entries = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if not isinstance(decorator, ast.Call):
                continue
            name = getattr(decorator.func, "id", getattr(decorator.func, "attr", ""))
            if name in DECORATORS:
                entries.append(_entry(file, node, decorator, DECORATORS[name]))
    return entries


def _entry(
    file: Path, node: ast.ClassDef | ast.FunctionDef, decorator: ast.Call, kind: Kind
) -> Entry:
    where = f"{shown(file)} line {decorator.lineno}"
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
    for keyword in decorator.keywords:
        _check_meta(f"{shown(file)} line {keyword.value.lineno}", kind, str(keyword.arg), meta)
    init: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    two_stage, source = bool(meta.get("two_stage", False)), file
    if isinstance(node, ast.ClassDef):
        if kind == "method":
            source, init = inherited(node, file, "__init__", _METHOD) or (file, None)
            two_stage = two_stage or inherited(node, file, "first_stage", _METHOD) is not None
        else:
            own = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
            init = next(own, None)
    doc = (ast.get_docstring(node) or "").strip().splitlines()
    summary = doc[0] if doc else ""
    if init is not None and kind != "model":
        _check_signature(source, init, 2 if kind == "method" else 1, meta.get("preset", {}))
    options = _options(source, init, RESERVED if kind == "method" else ())
    for unknown in set(meta.get("added", ())) - set(options) if kind != "model" else ():
        raise UserError(f"{where}: added names {unknown!r}, which is no option")
    if kind == "dataset":  # what the decorator has fixed for this name is no option
        options = {n: o for n, o in options.items() if n not in meta.get("preset", {})}
    version = meta.pop("version", 1)  # of the definition, no argument of a model's
    return Entry(kind, name, file, node.name, summary, meta, options, two_stage, version=version)


def _number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_TEXT = (lambda v: isinstance(v, str), "text")
_WEIGHT = (_number, "a number of at least 0")
_COUNT = (_count, "a whole number above 0")
_FLAG = (lambda v: isinstance(v, bool), "True or False")
_NAMES = (lambda v: isinstance(v, tuple | list) and all(isinstance(n, str) for n in v), "names")
#: what each decorator may say besides the name; a model's are arguments of its constructor
_META: dict[Kind, dict[str, Any]] = {
    "method": {
        "title": _TEXT, "paper": _TEXT, "gamma": _WEIGHT, "alpha": _WEIGHT, "beta": _WEIGHT,
        "two_stage": _FLAG, "added": _NAMES,
        "schedule": (lambda v: isinstance(v, dict), "a mapping of warmup, cosine or steps"),
    },
    "dataset": {
        "title": _TEXT, "classes": _COUNT, "size": _COUNT, "channels": _COUNT, "images": _COUNT,
        "test_images": _COUNT, "added": _NAMES, "files": _FLAG,
        "reads": _NAMES,
        "preset": (lambda v: isinstance(v, dict) and all(isinstance(k, str) for k in v),
                   "a mapping of names to values"),
    },
    "model": {},
}  # fmt: skip


def _check_meta(where: str, kind: Kind, key: str, meta: dict[str, Any]) -> None:
    """Refuse an argument of a decorator that is unknown or of another type.

    Raises:
        UserError: it is.
    """
    known = {**_META[kind], "version": _COUNT}
    if key in known:
        fits, what = known[key]
        if not fits(meta[key]):
            raise UserError(f"{where}: {key} of register_{kind} must be {what}, not {meta[key]!r}")
    elif kind != "model":
        raise UserError(f"{where}: register_{kind} takes no {key!r}{nearest(key, known)}")


def _check_signature(
    file: Path, init: ast.FunctionDef, usual: int, preset: Mapping[str, Any]
) -> None:
    """Refuse arguments that a suite would never set.

    Args:
        file: where it is.
        init: a constructor, or a dataset's loader.
        usual: how many arguments it is called with.
        preset: what the decorator fixes beside them.

    Raises:
        UserError: it has others that are not keyword-only, or takes any.
    """
    where, given = f"{shown(file)} line {init.lineno}", [*init.args.posonlyargs, *init.args.args]
    odd = [a.arg for a in given[usual:] if a.arg not in preset]
    if odd:
        raise UserError(
            f"{where}: {odd[0]!r} of {init.name} is positional, and options are keyword-only;"
            " write '*,' before it"
        )
    if (more := init.args.vararg or init.args.kwarg) is not None:
        raise UserError(
            f"{where}: {more.arg!r} of {init.name} takes arguments without names; name the options"
            " after '*,' with their types and defaults"
        )


def _options(
    file: Path, init: ast.FunctionDef | None, reserved: tuple[str, ...]
) -> dict[str, Option]:
    options: dict[str, Option] = {}
    if init is None:
        return options
    for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        where = f"{shown(file)} line {arg.lineno}"
        if arg.arg in reserved:
            raise UserError(
                f"{where}: option {arg.arg!r} would never be set: a suite's methods have"
                f" {', '.join(reserved)} of their own; give it another name"
            )
        source = ast.unparse(arg.annotation) if arg.annotation else "Any"
        if isinstance(arg.annotation, ast.Constant) and isinstance(arg.annotation.value, str):
            source = arg.annotation.value  # an annotation in quotes
        try:
            annotation = eval(source, {"__builtins__": {}}, dict(_TYPES))
            value = None if default is None else ast.literal_eval(default)
        except Exception:
            raise UserError(
                f"{where}: option {arg.arg!r} needs a plain type, or one of wcordbench.options,"
                " and a literal default"
            ) from None
        options[arg.arg] = Option(arg.arg, annotation, value, default is None)
    return options


# --- importing ------------------------------------------------------------------


def module_name(file: Path) -> str:
    """A plugin's; the same in every process, so that what it defines can be pickled."""
    place = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    return f"wcordbench_plugin_{file.stem}_{place}"


def import_file(file: Path, known: str = "") -> Any:
    """The module of a file of this package or of a plugin.

    Args:
        file: the file.
        known: of a plugin, the digest that identities were computed from.

    Raises:
        UserError: a plugin fails when it is imported, or has been changed since it was read.
    """
    if file.is_relative_to(PACKAGE):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        return importlib.import_module(".".join(parts))
    name = module_name(file)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise UserError(f"plugin {file} is not a Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with beside(file):
                spec.loader.exec_module(module)
            if known and digest(file) != known:
                raise UserError(
                    f"plugin {file}, or a file that it imports, was changed after it was read; run"
                    " again if the new file is meant"
                )
        except BaseException as error:
            del sys.modules[name]
            if not isinstance(error, Exception) or isinstance(error, UserError):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"plugin {file} fails when imported: {reason}") from error
    return sys.modules[name]
