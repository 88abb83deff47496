"""What every model of a suite is made of: strict values, and sentences about wrong ones."""

from __future__ import annotations

import json
import reprlib
import typing
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)

from wcordbench import registry
from wcordbench.errors import UserError


def in_unit(unit: str, *examples: Any) -> Any:
    """What the reference of the suite file says of a key: its unit, and an example of it."""
    extra: dict[str, Any] = {"unit": unit} if unit else {}
    return Field(json_schema_extra=extra, examples=list(examples) or None)


Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]


class Mistake(ValueError):  # noqa: N818
    """A wrong value: what is wrong with it, and where below the model that is validated.

    Args:
        message: what follows the key's path in a sentence.
        at: the path.
    """

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.message, self.at = message, at


class Word(str):
    """``yes``, ``no``, ``on`` or ``off``, written without quotes.

    YAML 1.1 takes them for true and false, and people for that or for text (a class of images
    that is called "no"): which, the type of their key decides.
    """

    __slots__ = ()

    @property
    def truth(self) -> bool:
        """What it is for YAML 1.1."""
        return self.lower() in ("yes", "on")


def meant(value: Any, annotation: Any) -> Any:
    """A value of a suite for a key of this type: a :class:`Word` is true or false, or text."""
    if not isinstance(value, Word):
        return value
    is_flag = annotation is bool or bool in typing.get_args(annotation)
    return value.truth if is_flag else str(value)


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Strict(_Options):
    """Unknown keys are errors, and so are values of another type ("5" is not 5)."""

    @model_validator(mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {k: meant(v, fields[k].annotation) if k in fields else v for k, v in values.items()}


def plain(text: str) -> str:
    """Text on one line: what is blank at its ends goes, and elsewhere is one space."""
    return " ".join(text.split())


def alike(text: str) -> str:
    """What names have in common that a reader takes for one: case, blanks, an arrow's spelling."""
    text = unicodedata.normalize("NFKC", text).casefold().replace("→", "->")
    return plain(text.replace("->", " -> ")).replace(" -> ", "->")


def _label(value: str | None) -> str | None:
    if value is None:
        return None
    if not plain(value):
        raise Mistake("is blank; write a name, or leave the key out")
    return plain(value)


#: a name in tables: on one line, and not blank
Label = Annotated[str | None, AfterValidator(_label)]
SCHEDULES = ("step", "one_cycle", "cosine")


def registered(kind: registry.Kind, name: str) -> registry.Entry:
    """As :func:`wcordbench.registry.get`, for use in validators.

    Raises:
        Mistake: no such name.
    """
    try:
        return registry.get(kind, name)
    except UserError as error:
        raise Mistake(f": {error}") from None


def resolve_options(entry: registry.Entry, given: dict[str, Any]) -> dict[str, Any]:
    """Validate options against the definition's signature and fill in the defaults.

    Returns:
        JSON values only, as a run's configuration holds them: a tuple is a list, and an option
        that the definition did not always have (``added``) is left out at its default.

    Raises:
        Mistake: an option is unknown, missing, of another type or out of its range.
    """
    for key in given:
        if key not in entry.options:
            hint = registry.nearest(key, entry.options) or "; it has none"
            raise Mistake(f": {entry.kind} {entry.name!r} has no such option{hint}", key)
    model = create_model(f"{entry.name} options", __base__=_Options, **registry.option_model(entry))  # type: ignore[call-overload]
    given = {k: meant(v, entry.options[k].annotation) for k, v in given.items()}
    try:  # as JSON, in which a list can be a tuple and all else is as strict
        options = model.model_validate_json(json.dumps(given, default=str)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise Mistake(phrase(dict(first)), *first["loc"]) from None
    plain = {name: _plain(value) for name, value in options.items()}
    later = {n: _plain(entry.options[n].default) for n in entry.meta.get("added", ())}
    return {n: v for n, v in plain.items() if n not in later or v != later[n]}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


# --- saying what is wrong -------------------------------------------------------

LONGEST = 600
_PHRASES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must be made of letters, digits, '_' and '-'",
}


def phrase(error: dict[str, Any]) -> str:
    """What pydantic's error says, as what follows the key's path in a sentence."""
    kind, context = error["type"], error.get("ctx", {})
    if isinstance(context.get("error"), Mistake):
        return str(context["error"].message)
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "must not be empty"
    if kind == "union_tag_not_found":
        return f"needs a type; valid: {', '.join(SCHEDULES)}"
    if kind == "union_tag_invalid":
        tag = context.get("tag", "")
        return f": unknown type {show(tag)}{registry.nearest(tag, SCHEDULES)}"
    text = _PHRASES.get(kind) or error["msg"].replace("Input should be", "must be")
    hint = ""
    if kind == "literal_error" and isinstance(error["input"], str):
        names = [n.strip(" '") for n in context["expected"].replace(" or ", ", ").split(",")]
        hint = registry.nearest(error["input"], names)
        hint = hint if "did you mean" in hint else ""
    return f"{text[0].lower()}{text[1:]}, not {show(error['input'])}{hint}"


def show(value: Any) -> str:
    """A value as a sentence quotes it: YAML's words, and never long."""
    words = {None: "nothing", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, list | dict) and not value:
        return "an empty list" if isinstance(value, list) else "an empty mapping"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    short.maxlevel, short.maxlist, short.maxdict = 2, 4, 3
    return short.repr(value)


def one_line(sentence: str) -> str:
    """A sentence that stays one on a terminal, whatever names and values it quotes."""
    sentence = "".join(c if c.isprintable() else " " for c in sentence)
    return sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 3]}..."


def located(message: str, at: Iterable[str | int]) -> str:
    """A sentence about the key at a path."""
    key = ".".join(str(p) for p in at)
    if not key:
        return message.removeprefix(": ")
    return f"key {key!r}{'' if message.startswith(':') else ' '}{message}"
