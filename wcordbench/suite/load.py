"""Reading a suite file: YAML to :class:`Suite`, with one clear sentence for each mistake."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.schema import MethodSpec, Suite


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, and 5e-4 is a number."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        try:
            repeated = key in seen
        except TypeError:
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be plain text", key_node.start_mark
            ) from None
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# YAML 1.1 reads 5e-4 (no dot) as text; every user of this file means the number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_suite(path: str | Path, overrides: Iterable[str] = ()) -> Suite:
    """Read and validate a suite.

    Args:
        path: the YAML file.
        overrides: ``key.path=value`` strings (``--set``); values are YAML.

    Raises:
        UserError: one sentence that names the file, the key's path and the remedy.
    """
    path = Path(path)
    data = _read(path)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds a {type(data).__name__}, not a mapping"
        raise UserError(f"{path} {what}; a suite has the keys {', '.join(Suite.model_fields)}")
    for override in overrides:
        _set(data, override)
    plugins = data.get("plugins", [])
    if isinstance(plugins, list):
        for plugin in plugins:
            if isinstance(plugin, str):
                registry.add_plugin(path.parent / plugin)
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, data)}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(p) for p in Path("suites").glob("*.yaml")]
        hint = registry.nearest(str(path), siblings) if siblings else ""
        raise UserError(f"suite {path} does not exist{hint}") from None
    except IsADirectoryError:
        raise UserError(f"suite {path} is a folder; give a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(f"suite {path} is not UTF-8 text; give a YAML file") from None
    except OSError as error:
        raise UserError(f"suite {path} cannot be read: {error.strerror}") from None
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{where} is not valid YAML: {problem}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None


def _set(data: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise UserError(f"--set {override!r}: write key.path=value, as in train.epochs=2")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"--set {override!r}: {text!r} is not a YAML value") from None
    target: Any = data
    *parents, last = key.split(".")
    for part in parents:
        if isinstance(target, list) and part.isdigit() and int(part) < len(target):
            target = target[int(part)]
        elif isinstance(target, dict) and isinstance(target.setdefault(part, {}), dict | list):
            target = target[part]
        else:
            raise UserError(f"--set {override!r}: the suite has no mapping at {part!r}")
    if isinstance(target, list) and last.isdigit() and int(last) < len(target):
        target[int(last)] = value
    elif isinstance(target, dict):
        target[last] = value
    else:
        raise UserError(f"--set {override!r}: the suite has no mapping at {key!r}")


_PLAIN = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "missing": "is missing",
    "too_short": "must not be empty",
}


def _sentence(error: ValidationError, data: Any) -> str:
    # An unknown key explains the missing one it was meant to be: name it first.
    errors = sorted(error.errors(), key=lambda e: e["type"] == "missing")
    first = errors[0]
    loc = [p for p in first["loc"] if not (isinstance(p, str) and p in ("step", "one_cycle"))]
    path = ".".join(str(p) for p in loc)
    if first["type"] == "extra_forbidden":
        valid = _fields_at(Suite, loc[:-1])
        hint = registry.nearest(str(loc[-1]), valid) if valid else ""
        return f"unknown key {path!r}{hint}"
    if first["type"] in _PLAIN:
        got = "" if first["type"] == "missing" else f", not {first['input']!r:.60}"
        return f"key {path!r} {_PLAIN[first['type']]}{got}"
    if first["type"] == "union_tag_not_found":
        return f"key {path!r} needs a 'type': step or one_cycle"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"key {path!r}: {message}" if path else message
    return f"key {path!r}: {message[0].lower()}{message[1:]}, not {first['input']!r:.60}"


def _fields_at(model: Any, loc: list[Any]) -> list[str]:
    """The keys that the schema allows at a path."""
    for part in loc:
        if isinstance(part, int):
            continue
        candidates = [m for m in _models(model) if part in m.model_fields]
        if not candidates:
            return []
        model = candidates[0].model_fields[part].annotation
    found = _models(model)
    return list(dict.fromkeys(n for m in found if m is not MethodSpec for n in m.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) is not None or isinstance(annotation, types.UnionType):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []
