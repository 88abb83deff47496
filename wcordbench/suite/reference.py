"""The suite file described: as JSON Schema for editors, and as a page for people.

Both are made from the models that suites are validated with and from the registry, by
``wcordbench schema``.
"""

from __future__ import annotations

import copy
import json
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wcordbench import registry
from wcordbench.suite.dataset import Dataset, Task, View, Views
from wcordbench.suite.protocol import Train
from wcordbench.suite.schema import MethodSpec, Pair, Suite, Teacher

#: beside the shipped suites, which name it in their first line
SCHEMA_FILE = "suite.schema.json"
_SWEEP = {"$ref": "#/$defs/Sweep"}


# --- JSON Schema ----------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a suite file.

    Names that a plugin may add are suggested, not required; everything else is as strict as
    what ``wcordbench validate`` checks of single values.
    """
    schema = Suite.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "A wcordbench suite"
    definitions = schema["$defs"]
    for definition in [schema, *definitions.values()]:
        for name, value in definition.get("properties", {}).items():
            value.pop("title", None)
            if value.get("$ref", "").endswith("Override"):  # it may be left out, not null
                value.pop("default", None)
            if "const" in value or "enum" in value:
                value.setdefault("type", "string")
            if name == "methods" and definition is schema:
                value["items"] = _named("method", value["items"])
    definitions["Sweep"] = {
        "type": "object",
        "description": "one row a value",
        "properties": {"sweep": {"type": "array", "minItems": 1}},
        "required": ["sweep"],
        "additionalProperties": False,
    }
    method = definitions["MethodSpec"]["properties"]
    for key in ("gamma", "alpha", "beta"):
        method[key]["anyOf"].append(_SWEEP)
    definitions["SweptTrain"] = _swept("TrainOverride", definitions)
    method["train"]["$ref"] = "#/$defs/SweptTrain"
    for name, values in _method_options().items():
        method.setdefault(name, {"anyOf": [*values, _SWEEP]})
    definitions["MethodSpec"]["properties"]["name"]["anyOf"] = _suggest("method")
    definitions["Dataset"]["properties"]["name"]["anyOf"] = _suggest("dataset")
    pair = definitions["Pair"]["properties"]
    definitions["Teacher"]["properties"]["checkpoint"]["anyOf"] += [
        {"type": "string"},
        {"const": True},
    ]
    pair["teacher"] = _named("model", pair["teacher"])
    for value in (pair["student"], definitions["Teacher"]["properties"]["model"]):
        value["anyOf"] = _suggest("model")
    schema["properties"]["dataset"] = _named("dataset", schema["properties"]["dataset"])
    return schema


def _swept(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A definition any of whose values may be a sweep, at any depth."""
    swept: dict[str, Any] = copy.deepcopy(definitions[name])
    for key, value in swept["properties"].items():
        kept = {k: value.pop(k) for k in ("description", "default") if k in value}
        if "$ref" in value:
            value = _swept(value["$ref"].rpartition("/")[2], definitions)
        swept["properties"][key] = {**kept, "anyOf": [value, _SWEEP]}
    return swept


def _suggest(kind: registry.Kind) -> list[dict[str, Any]]:
    """Known names to complete, and any other that a plugin or timm may have."""
    return [{"enum": [n for n, e in registry.catalogue(kind).items() if not e.is_plugin]}, {
        "type": "string"
    }]  # fmt: skip


def _named(kind: registry.Kind, value: dict[str, Any]) -> dict[str, Any]:
    """The mapping, or a name that stands for it."""
    reference = {"$ref": value["$ref"]}
    rest = {k: v for k, v in value.items() if k != "$ref"}
    return {**rest, "anyOf": [*_suggest(kind), reference]}


def _method_options() -> dict[str, list[dict[str, Any]]]:
    """What each option of any method may be, by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in registry.catalogue("method").values():
        for option in entry.options.values():
            kind = _json_type(option.annotation)
            if kind not in found.setdefault(option.name, []):
                found[option.name].append(kind)
    return found


def _json_type(annotation: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _json_type(arguments[0])
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_json_type(a) for a in arguments]}
    names = {
        int: "integer", float: "number", bool: "boolean", str: "string", type(None): "null",
        list: "array", tuple: "array", dict: "object",
    }  # fmt: skip
    name = names.get(origin or annotation)
    return {} if name is None else {"type": name}


# --- the page -------------------------------------------------------------------

HEADER = """# The suite file

Every key of a suite, made from the schema by `wcordbench schema --format markdown`.
`wcordbench validate FILE` checks a file and names all of its mistakes. `wcordbench schema` prints
the JSON Schema. Editors complete keys and values where a file's first line names it, as those of
the shipped suites do:

```yaml
# yaml-language-server: $schema=suite.schema.json
```

"required" stands where a key has no default. `--set train.epochs=2` changes a key for one
command.
"""

#: heading, text below it, the model, and where its keys stand
_SECTIONS: list[tuple[str, str, type[BaseModel], str]] = [
    ("The top level", "", Suite, ""),
    ("dataset", "A name stands for `{name: …}`.", Dataset, "dataset."),
    ("task", "One of the two keys.", Task, "task."),
    (
        "views",
        "Of the same crop and flip, in this order: blur, size, grey, noise, normalisation.",
        Views,
        "views.",
    ),
    ("views.teacher, views.student", "", View, "views.student."),
    (
        "train",
        "A pair, a teacher and a method may each override any of these keys under a `train` of"
        " their own. A schedule is replaced as a whole, of other mappings only the keys that an"
        " override names.",
        Train,
        "train.",
    ),
    (
        "pairs",
        "A list. Under `methods`, a method's name holds keys of `train` and `options`: the method's"
        " own options, `gamma`, `beta`, `schedule` and `lr_factor` on this pair. They hold where"
        " the method is part of `a+b` as well; the weights where it is the first part, `gamma`"
        " where it stands alone.",
        Pair,
        "pairs.0.",
    ),
    ("pairs.teacher", "A name stands for `{model: …}`.", Teacher, "pairs.0.teacher."),
    (
        "methods",
        "A list of names and mappings. Other keys of a mapping are options of the named methods,"
        " see below; in `a+b` an option goes to the first method that has it. Any value, one of"
        " `train` as well, may be `{sweep: [a, b]}`: one row a value. A label is on one line, is"
        " not blank and is not the name of another method.",
        MethodSpec,
        "methods.0.",
    ),
]


def markdown() -> str:
    """``docs/suites.md``."""
    parts = [HEADER]
    for heading, text, model, at in _SECTIONS:
        parts += [f"## {heading}\n", *([f"{text}\n"] if text else []), _keys(model, at)]
        parts += _below(model, at)
    parts += ["## Methods and their options\n", _options("method")]
    parts += ["## Datasets and their options\n", _options("dataset")]
    return "\n".join(parts)


def _below(model: type[BaseModel], at: str) -> Iterator[str]:
    """The sections of the mappings that a model's keys hold, where they have none above."""
    for name, field in model.model_fields.items():
        for inner in _inner(field):
            kind = inner.model_fields.get("type")
            which = f", type: {kind.default}" if kind is not None else ""
            yield f"## {at}{name}{which}\n"
            yield f"{_first_line(inner)}\n"
            yield _keys(inner, f"{at}{name}.")
            yield from _below(inner, f"{at}{name}.")


def _inner(field: FieldInfo) -> list[type[BaseModel]]:
    """The models of a key that have no section of their own."""
    own = {model for _, _, model, _ in _SECTIONS}
    found = [m for m in _models(field.annotation) if m not in own]
    return [m for m in found if not m.__name__.endswith("Override")]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _first_line(model: type[BaseModel]) -> str:
    lines = (model.__doc__ or "").strip().splitlines()
    return lines[0].replace("``", "`") if lines else ""


def _keys(model: type[BaseModel], at: str) -> str:
    headers = ["key", "type", "default", "unit", "meaning", "example"]
    rows = []
    for name, field in model.model_fields.items():
        try:
            shown = example(field)
        except ValueError:
            raise ValueError(f"give the key {at}{name} an example") from None
        rows.append(
            [
                f"`{name}`",
                _type(field),
                _default(field),
                _unit(field),
                field.description or "",
                f"`{name}: {_yaml(shown)}`",
            ]
        )
    return _table(headers, rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None and _is_override(field):
        return "the suite's"
    return "see below" if isinstance(value, BaseModel) else f"`{_yaml(value)}`"


def _is_override(field: FieldInfo) -> bool:
    return any(m.__name__.endswith("Override") for m in _models(field.annotation))


def example(field: FieldInfo) -> Any:
    """A value that the key may have: the one that is given, or the default.

    Raises:
        ValueError: neither says anything.
    """
    if field.examples:
        return field.examples[0]
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if default is None:
        raise ValueError("neither an example nor a default")
    return _plain(default)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    return value


def _unit(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return str(unit) if unit else "–"


def _type(field: FieldInfo) -> str:
    """A key's type in YAML's words, with its range."""
    return _words(field.annotation) + _range(field.metadata)


def _range(metadata: list[Any]) -> str:
    signs = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
    found = [
        f"{sign} {getattr(item, name):g}"
        for name, sign in signs
        for item in metadata
        if getattr(item, name, None) is not None
    ]
    return f" {', '.join(found)}" if found else ""


def _words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _words(arguments[0]) + _range(_metadata(arguments[1:]))
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_words(a) for a in arguments))
    if origin is list:
        return f"list of {_words(arguments[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    names = {
        int: "whole number", float: "number", bool: "true or false", str: "text",
        type(None): "null", list: "list", tuple: "list",
    }  # fmt: skip
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return names.get(annotation, "anything")


def _metadata(items: tuple[Any, ...]) -> list[Any]:
    return [m for item in items for m in (item.metadata if isinstance(item, FieldInfo) else [item])]


def _options(kind: registry.Kind) -> str:
    rows = []
    for entry in registry.catalogue(kind).values():
        if entry.is_plugin:
            continue
        title = f"`{entry.name}`"
        for option in entry.options.values():
            default = "required" if option.required else f"`{_yaml(option.default)}`"
            shown = f"`{option.name}`"
            words = _words(option.annotation) + _range(_metadata(getattr(option, "metadata", ())))
            value = "…" if option.required else _yaml(option.default)
            mapping = f"{{name: {entry.name}, {option.name}: {value}}}"
            if kind == "dataset":
                mapping = f"{{name: {entry.name}, options: {{{option.name}: {value}}}}}"
            rows.append([title, shown, words, default, f"`{mapping}`"])
            title = ""
        if not entry.options:
            rows.append([title, "–", "", "", ""])
    return _table([kind, "option", "type", "default", "example"], rows)


def _yaml(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("...\n").strip()


def _table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return (
        "\n".join(
            f"| {' | '.join(c.replace('|', chr(92) + '|') for c in line)} |" for line in lines
        )
        + "\n"
    )


def as_json() -> str:
    """:func:`json_schema` as the file that is shipped."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


__all__ = ["SCHEMA_FILE", "as_json", "example", "json_schema", "markdown"]
