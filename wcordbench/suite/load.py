"""Reading a suite file: YAML to :class:`Suite`, with one clear sentence for each mistake."""

from __future__ import annotations

import codecs
import dataclasses
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite import paths
from wcordbench.suite.base import Word
from wcordbench.suite.blame import first, sentence, written_part
from wcordbench.suite.schema import (
    Mistake,
    Source,
    Suite,
    located,
    one_line,
    show,
)
from wcordbench.suite.shipped import resolve, unknown
from wcordbench.suite.sweep import Swept, expand_sweeps, in_file

#: more than any suite needs, less than aliases of aliases can make of a few lines
MOST_VALUES = 100_000
LONGEST_TEXT = 4096
LARGEST_FILE = 1_000_000
DEEPEST = 50
TOO_DEEP = f"it is nested more than {DEEPEST} deep"

Location = tuple[str | int, ...]


# --- YAML -----------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML: a key that stands twice is an error, plain scalars are what people mean."""

    flow_level: int

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Refuse early what takes PyYAML a time quadratic in the depth."""
        if self.flow_level >= DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
        super().fetch_flow_collection_start(token)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            raise _problem("a key must be plain text", key_node)
        key = loader.construct_object(key_node)
        if key in seen:
            raise _problem(f"key {show(key)} stands twice", key_node)
        seen.add(key)
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


def _refuse(loader: _Loader, node: yaml.Node) -> Any:  # noqa: ARG001
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    raise _problem(f"the tag {show(tag)} is not allowed; write the value itself", node)


def _problem(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _implicit(loader: type[_Loader]) -> None:
    """Plain scalars as people mean them, where YAML 1.1 does not.

    5e-4 (no dot) and 1.5e3 (no sign) are numbers; a date, 1:30 and 2024_01 are text, 1_000 is a
    number; yes, no, on and off are what their key takes, see :class:`Word`.
    """
    kept = {"null", "merge", "value"}
    resolvers: dict[str, list[Any]] = {
        start: [(tag, regexp) for tag, regexp in pairs if tag.rpartition(":")[2] in kept]
        for start, pairs in loader.yaml_implicit_resolvers.items()
    }
    loader.yaml_implicit_resolvers = resolvers
    digits = "-+0123456789"
    thousands = r"[1-9][0-9]{0,2}(?:_[0-9]{3})+"
    for tag, pattern, starts in (
        ("tag:yaml.org,2002:bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
        ("!word", r"(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)", "yYnNoO"),
        ("!octal", r"[-+]?0[0-9_]*[0-9]", digits),
        ("tag:yaml.org,2002:int", rf"[-+]?(?:0|[1-9][0-9]*|{thousands})", digits),
        ("tag:yaml.org,2002:int", r"[-+]?0(?:x[0-9a-fA-F]+|b[01]+)", digits),
        (
            "tag:yaml.org,2002:float",
            rf"[-+]?(?:(?:{thousands}|[0-9]+)\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?",
            digits + ".",
        ),
        ("tag:yaml.org,2002:float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ):
        loader.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), list(starts))


def _octal(loader: _Loader, node: yaml.ScalarNode) -> Any:  # noqa: ARG001
    number = node.value.lstrip("+-").replace("_", "").lstrip("0") or "0"
    raise _problem(
        f"{node.value} begins with 0, which can mean base 8; write {number}, or"
        f" '{node.value}' in quotes if it is text",
        node,
    )


def _word(loader: _Loader, node: yaml.ScalarNode) -> Any:
    known = node.value.lower() in ("yes", "no", "on", "off")
    return Word(node.value) if known else _refuse(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor(None, _refuse)
for _tag in ("binary", "timestamp", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refuse)
_Loader.add_constructor("!octal", _octal)
_Loader.add_constructor("!word", _word)
_implicit(_Loader)


def _parse(text: str) -> Any:
    """The value that a YAML document holds.

    Raises:
        yaml.YAMLError: it is not valid, or not something a suite may hold.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _count(node, {}) > MOST_VALUES:
            raise _problem(
                f"its aliases (*) expand to more than {MOST_VALUES:,} values; write less", node
            )
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError(TOO_DEEP) from None
    except (ValueError, LookupError) as error:  # !!int x, !!bool x
        raise yaml.YAMLError(f"a value does not fit its tag ({error})") from None
    finally:
        loader.dispose()


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node stands for when its aliases are followed."""
    known = counts.get(id(node))
    if known == 0:
        raise _problem("an alias (*) stands inside of what it names", node)
    if known is None:
        counts[id(node)] = 0
        known = 1
        if isinstance(node, yaml.SequenceNode):
            known += sum(_count(n, counts) for n in node.value)
        elif isinstance(node, yaml.MappingNode):
            known += sum(_count(k, counts) + _count(v, counts) for k, v in node.value)
        counts[id(node)] = known
    return known


def _why(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


# --- from a file to a suite -----------------------------------------------------


def load_suite(path: str | Path, overrides: Iterable[str] = ()) -> Suite:
    """Read and validate a suite.

    Args:
        path: the YAML file, or the name of a shipped suite.
        overrides: ``key.path=value`` strings (``--set``); values are YAML.

    Raises:
        UserError: one sentence that names the file, the key's path and the remedy.
    """
    found = read_suite(path, overrides)
    if found.problem is None:
        try:
            return found.suite()
        except ValidationError as error:
            found.problem = first(error, found.data)
            found.problem.at = in_file(found.problem.at, found.swept)
    raise UserError(found.sentence(found.problem))


@dataclasses.dataclass
class Read:
    """A suite's file as it was read, before its values are validated.

    Attributes:
        written: the file's mapping with its overrides.
        data: the same with sweeps expanded.
        source: the file and the overrides.
        swept: where each method of ``data`` stands in the file.
        problem: what is wrong with the file before any value is looked at.
    """

    written: dict[str, Any]
    data: dict[str, Any]
    source: Source
    swept: list[Swept]
    problem: Mistake | None = None

    def suite(self) -> Suite:
        """The suite.

        Raises:
            ValidationError: a value is wrong.
        """
        suite = Suite.model_validate(self.data)
        suite._source, suite._swept = self.source, self.swept
        return suite

    def sentence(self, problem: Mistake) -> str:
        """One sentence about a mistake: the file, the key, what is wrong and what to do."""
        source = self.source
        if source.overrides and not source.related(problem.at) and not _valid(source.file):
            source.overrides.clear()  # none is to blame
        text = sentence(problem, written_part(problem.at, self.written))
        return one_line(f"{source.blame(problem.at)}: {text}")


def read_suite(path: str | Path, overrides: Iterable[str] = ()) -> Read:
    """Read a suite's file, apply its overrides, add its plugins and expand its sweeps.

    Raises:
        UserError: it is no YAML mapping, or an override is wrong.
    """
    path = resolve(Path(path))
    data = _read(path)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"holds {_kind(data)}, not a mapping"
        raise UserError(f"{path} {what}; a suite has the keys {', '.join(Suite.model_fields)}")
    found = Read(data, data, Source(path), [])
    try:
        found.written = found.data = data = _plain(data)
    except Mistake as error:
        found.problem = error
        return found
    for override in overrides:
        found.source.overrides.append((override, _set(data, override)))
    found.problem = _add_plugins(path, data) or paths.resolve(path, data)
    if found.problem is None and isinstance(data.get("methods"), list):
        try:
            methods, found.swept = expand_sweeps(data["methods"])
            found.data = {**data, "methods": methods}
        except Mistake as error:
            found.problem = error
    return found


def _valid(path: Path) -> bool:
    """Whether a suite is valid without its overrides."""
    try:
        load_suite(path)
    except UserError:
        return False
    return True


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"suite {path} is larger than {LARGEST_FILE:,} bytes; give a suite")
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except FileNotFoundError:
        raise UserError(unknown(path)) from None
    except IsADirectoryError:
        raise UserError(f"suite {path} is a folder; give a YAML file") from None
    except UnicodeDecodeError:
        raise UserError(f"suite {path} is not UTF-8 text; give a YAML file") from None
    except OSError as error:
        raise UserError(f"suite {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"suite {str(path)!r} cannot be read: {error}") from None
    try:
        return _parse(text)
    except yaml.YAMLError as error:
        raise UserError(one_line(f"{path} is not valid YAML: {_why(error)}")) from None


def _kind(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")


def _plain(value: Any, at: Location = ()) -> Any:
    """A copy in which nothing is shared, of values that JSON has as well.

    Raises:
        Mistake: a value or a key is of another kind.
    """
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise Mistake(f"holds the key {show(key)}, which is not text; quote it", *at)
            _plain(key, at)
        return {str(key): _plain(item, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, (*at, i)) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise Mistake(f"must be a finite number, not {value}", *at)
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise Mistake(f"is too large a number, {show(value)}", *at)
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise Mistake(f"is longer than {LONGEST_TEXT} characters", *at)
        odd = next((c for c in value if not (c.isprintable() or c.isspace())), None)
        if odd is not None:
            raise Mistake(f"holds the character {odd!r}, which cannot be printed", *at)
    return value


def _set(data: dict[str, Any], override: str) -> Location:
    """Apply an override; returns the path it changed."""

    def wrong(reason: str) -> UserError:
        return UserError(one_line(f"--set {override}: {reason}"))

    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or "" in parts:
        raise wrong("write key.path=value, as in train.epochs=2")
    try:
        value = _plain(_parse(text), tuple(parts))
    except yaml.YAMLError as error:
        raise wrong(f"{show(text)} is not valid YAML: {_why(error)}") from None
    except Mistake as error:
        raise wrong(located(error.message, error.at)) from None
    target: Any = data
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        where = f"{'.'.join(parts[:i])!r}" if i else "the suite"
        if isinstance(target, list):
            if not (part.isascii() and part.isdigit() and int(part) < len(target)):
                n = len(target)
                items = "one item, numbered 0" if n == 1 else f"items 0 to {n - 1}"
                raise wrong(f"{where} is a list with {items if n else 'no item'}; {part!r} is none")
            index: Any = int(part)
        elif isinstance(target, dict):
            index = part
            if not last:
                target.setdefault(part, {})
        else:
            raise wrong(f"{where} is {show(target)}, which has no keys")
        if last:
            target[index] = value
        else:
            target = target[index]
    return tuple(parts)


def _add_plugins(path: Path, data: dict[str, Any]) -> Mistake | None:
    """Register the suite's plugins; what the schema will refuse is left to it."""
    plugins = data.get("plugins", [])
    for i, plugin in enumerate(plugins if isinstance(plugins, list) else []):
        if isinstance(plugin, str):
            try:
                registry.add_plugin(paths.beside(path, plugin))
            except (UserError, ValueError) as error:
                return Mistake(f": {error}", "plugins", i)
    return None
