"""What exists — methods, models, datasets — known without importing torch.

A definition registers itself with a decorator in its own file::

    @register_model("resnet20", blocks=3)
    class ResNet(nn.Module): ...

The decorator's arguments and the signature of ``__init__`` are read from the source
(:mod:`wcordbench.definitions`), so that ``--help``, ``validate`` and ``table`` know every name,
option, range and default in milliseconds; the file itself is imported on first use only. That is
why the decorators' arguments and the options' defaults must be literals, and the options' types
plain ones or those of :mod:`wcordbench.options`.

Files outside the package are added with :func:`add_plugin` (``plugins:`` in a suite).
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from wcordbench import imports
from wcordbench.definitions import (
    DECORATORS,
    KINDS,
    PACKAGE,
    RESERVED,
    Entry,
    Kind,
    Option,
    module_name,
    nearest,
    scan,
    shown,
)
from wcordbench.errors import UserError

_PACKAGES: dict[Kind, str] = {"method": "methods", "model": "models", "dataset": "data"}
_plugins: dict[Path, list[Entry]] = {}

T = TypeVar("T")


def _mark(obj: T) -> T:
    return obj


def register_model(name: str, **preset: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register an architecture; ``preset``, less ``version``, is passed to its constructor.

    ``version``, in this and the other decorators: a whole number, 1 where it is not given, to be
    raised when a change of the definition changes its numbers. It is part of the identity of
    the runs that are made of the definition.

    The constructor is called as ``cls(num_classes=…, in_channels=…, image_size=…, **preset)``.
    Stack the decorator to register several sizes of one family.
    """
    return _mark


def register_method(name: str, **meta: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register a distillation method (see :class:`wcordbench.methods.base.Method`).

    ``meta``: ``title`` (as printed in tables), ``paper``, and the default weights
    ``gamma`` (cross entropy), ``alpha`` (a term added by ``+``, as in ``+kd``) and ``beta``
    (the method's own loss), and ``schedule``, how beta changes over the epochs unless a suite
    says otherwise (see :func:`wcordbench.ramp.factor`). Keyword-only arguments of ``__init__``
    are its options, none of which may be called as one of :data:`RESERVED`; a class that defines
    ``first_stage``, or inherits it, has one.
    ``added``: names of options that came after runs of the method were stored; at their
    defaults they are no part of a run's identity (for datasets, too).
    """
    return _mark


def register_dataset(name: str, **meta: Any) -> Callable[[T], T]:  # noqa: ARG001
    """Register a dataset loader (see :mod:`wcordbench.data`).

    ``meta``: ``title``, and where they are the same for all options ``classes``, ``size``
    (pixels a side), ``channels`` and ``images`` (of the training set), so that a suite can
    be checked without the data; ``files=True`` where the function only lists files, so that
    ``run`` can call it before anything else. Keyword-only arguments are its options.
    ``preset``: other arguments of the function, so that one serves several names: stack the
    decorator. ``added``: the options that the function did not always have; a run's
    configuration names them only where they are not at their default. ``reads``: paths or
    patterns below the folder of datasets that the images come from, options in braces: with it a
    run asks the file system, and not the images, whether they are those of its results. What
    follows ``/../`` in one lies beside it: ``"{folder}/../labels.csv"``.
    """
    return _mark


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
    entries = [replace(entry, digest=imports.digest(path)) for entry in scan(path)]
    if not entries:
        raise UserError(
            f"plugin {path} registers nothing; decorate a class or function at its top level"
            f" with {', '.join(list(DECORATORS)[:-1])} or {list(DECORATORS)[-1]}"
        )
    own: dict[tuple[Kind, str], Entry] = {}
    for entry in entries:
        _check_defaults(entry)
        known = own.get((entry.kind, entry.name)) or catalogue(entry.kind).get(entry.name)
        if known is not None:
            raise UserError(
                f"plugin {path} registers the {entry.kind} {entry.name!r}, which"
                f" {shown(known.file)} registers already; rename it"
            )
        own[entry.kind, entry.name] = entry
    _plugins[path] = entries
    catalogue.cache_clear()


def _check_defaults(entry: Entry) -> None:
    """Refuse a default that a suite could not give; those of this package are tested.

    Raises:
        UserError: there is one. None is taken as "not given" whatever the type.
    """
    from pydantic import TypeAdapter, ValidationError

    for option in entry.options.values():
        if option.default is None:
            continue
        try:
            TypeAdapter(option.annotation).validate_python(option.default)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].replace("Input should", "it should")
            raise UserError(
                f"{shown(entry.file)}: option {option.name!r} of {entry.name!r} has the default"
                f" {option.default!r}, but {reason}"
            ) from None


def plugins() -> tuple[Path, ...]:
    """The files added, in order: what another process must add to know the same names."""
    return tuple(_plugins)


def reason(error: BaseException) -> str:
    """The first line of what an error says, and the line of a plugin that it comes from."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    files = {str(path): path for path in _plugins}
    places = [
        f"{files[frame.filename].name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in files
    ]
    return f"{first}; {places[-1]}" if places else first


def forget_plugins() -> None:
    """Undo every :func:`add_plugin`, for tests."""
    for path in _plugins:
        sys.modules.pop(module_name(path), None)
        imports.forget(path)
    _plugins.clear()
    catalogue.cache_clear()


@functools.cache
def catalogue(kind: Kind) -> dict[str, Entry]:
    """Every registered definition of a kind by name, in the order of file and line."""
    folder = PACKAGE / _PACKAGES[kind]
    scanned = [scan(file) for file in sorted(folder.glob("*.py"))]
    found: dict[str, Entry] = {}
    for entries in [*scanned, *_plugins.values()]:
        for entry in entries:
            if entry.kind != kind:
                continue
            if entry.name in found:
                raise UserError(
                    f"{kind} {entry.name!r} is registered in both"
                    f" {shown(found[entry.name].file)} and {shown(entry.file)};"
                    " rename one of them"
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


def option_model(entry: Entry) -> dict[str, tuple[Any, Any]]:
    """The options as pydantic field definitions: name to (type, default)."""
    return {
        o.name: (o.annotation, ... if o.required else o.default) for o in entry.options.values()
    }


__all__ = [
    "KINDS", "RESERVED", "Entry", "Kind", "Option", "add_plugin", "catalogue", "forget_plugins",
    "get", "nearest", "option_model", "plugins", "reason", "register_dataset", "register_method",
    "register_model",
]  # fmt: skip
