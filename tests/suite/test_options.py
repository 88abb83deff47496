"""An option is either used or refused: its name, its range, tuples, and what YAML makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
import pytest

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite import load_suite
from wcordbench.suite.base import Mistake, resolve_options
from wcordbench.suite.schema import MethodSpec

Write = Callable[[dict[str, Any]], Path]

PLUGIN = """
from typing import Annotated
from wcordbench.methods.base import Method
from wcordbench.options import *
from wcordbench.registry import register_method

@register_method("mine", {meta})
class Mine(Method):
    def __init__(self, setup, *, {options}):
        super().__init__(setup)
        self.given = {given}
    def forward(self, student, teacher, batch):
        return student.logits.float().square().mean()
"""


@pytest.fixture
def plugin(base: dict[str, Any], write: Write, tmp_path: Path) -> Callable[..., Path]:
    """A suite of one plugin's method: the decorator's and the method's own text, and options."""

    def make(options: str, meta: str = "beta=1.0", **given: Any) -> Path:
        source = PLUGIN.format(meta=meta, options=options, given=options.partition(":")[0])
        (tmp_path / "mine.py").write_text(source)
        base["plugins"], base["methods"] = ["mine.py"], ["student", {"name": "mine", **given}]
        return write(base)

    return make


def ranged(kinds: tuple[registry.Kind, ...] = registry.KINDS) -> list[tuple[registry.Entry, str]]:
    return [(e, n) for kind in kinds for e in registry.catalogue(kind).values() for n in e.options]


@pytest.mark.parametrize(("entry", "name"), ranged(), ids=lambda x: getattr(x, "name", x))
def test_every_number_of_this_package_declares_its_range(entry: registry.Entry, name: str) -> None:
    """An option that may be any number says so by ``Annotated[float, "any"]``."""
    annotation = entry.options[name].annotation
    plain = {annotation, *get_args(annotation)} & {int, float}
    literal = get_origin(annotation) in (Annotated, Literal)
    assert literal or not plain, f"declare the range of {entry.name}'s {name} (wcordbench.options)"


def bounds(annotation: Any) -> list[float]:
    """Values just outside of a range."""
    outside: list[float] = []
    for part in get_args(annotation) if get_origin(annotation) is Annotated else ():
        parts = part if isinstance(part, annotated_types.GroupedMetadata) else [part]
        for bound in parts:
            for key, step in (("gt", 0), ("ge", -1), ("lt", 0), ("le", 1)):
                if getattr(bound, key, None) is not None:
                    outside.append(getattr(bound, key) + step)
    return outside


@pytest.mark.parametrize(("entry", "name"), ranged(), ids=lambda x: getattr(x, "name", x))
def test_what_lies_outside_of_a_range_is_refused(entry: registry.Entry, name: str) -> None:
    required = {o.name: "x" for o in entry.options.values() if o.required}
    for value in bounds(entry.options[name].annotation):
        with pytest.raises(Mistake, match=r"must be (greater|less) than") as raised:
            resolve_options(entry, {**required, name: value})
        assert raised.value.at == (name,)
    default = entry.options[name].default
    if default is not None:
        resolved = resolve_options(entry, {**required, name: default})
        value = resolved.get(name, default)
        assert (tuple(value) if isinstance(value, list) else value) == default


def test_reserved_names_are_those_that_every_method_of_a_suite_has() -> None:
    assert set(registry.RESERVED) == set(MethodSpec.model_fields)


@pytest.mark.parametrize("name", registry.RESERVED)
def test_an_option_that_a_suite_could_not_reach_is_refused(
    name: str, plugin: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=rf"mine.py line 9: option '{name}' would never be set"):
        load_suite(plugin(f"{name}: float = 8.0", **{"gamma": 2.0}))


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ("gamma=None", "gamma of register_method must be a number of at least 0, not None"),
        ("beta='high'", "beta of register_method must be a number of at least 0, not 'high'"),
        ("alpha=-1", "alpha of register_method must be a number of at least 0, not -1"),
        ("beta=True", "beta of register_method must be a number of at least 0, not True"),
        ("beta=1e999", "beta of register_method must be a number of at least 0, not inf"),
        ("title=3", "title of register_method must be text, not 3"),
        ("two_stage=1", "two_stage of register_method must be True or False, not 1"),
        ("gama=0.5", "register_method takes no 'gama'; did you mean 'gamma'?"),
    ],
)
def test_what_a_decorator_says_is_checked(
    meta: str, sentence: str, plugin: Callable[..., Path]
) -> None:
    with pytest.raises(UserError) as raised:
        load_suite(plugin("power: float = 1.0", meta))
    assert f"mine.py line 7: {sentence}" in str(raised.value)


def test_a_dataset_s_decorator_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "d.py"
    file.write_text("@register_dataset('d', classes='ten')\ndef d(root): pass")
    with pytest.raises(UserError, match=r"classes of register_dataset must be a whole number"):
        registry.add_plugin(file)


def test_what_a_decorator_fixes_is_no_option(tmp_path: Path) -> None:
    file = tmp_path / "d.py"
    file.write_text("@register_dataset('d', preset={'flag': 'x'})\ndef d(root, *, flag, n=1): pass")
    registry.add_plugin(file)
    assert list(registry.get("dataset", "d").options) == ["n"]


def test_alpha_of_a_decorator_weighs_what_is_added() -> None:
    assert [t.weight for t in MethodSpec(name="crd+kd").terms()] == [0.8, 1.0]


def test_the_added_term_s_weight_is_the_first_method_s(plugin: Callable[..., Path]) -> None:
    load_suite(plugin("power: float = 1.0", "beta=2.0, alpha=0.25"))
    assert [t.weight for t in MethodSpec(name="mine+kd").terms()] == [2.0, 0.25]
    assert [t.weight for t in MethodSpec(name="mine+kd", alpha=3.0).terms()] == [2.0, 3.0]


def test_a_default_out_of_its_own_range_is_refused(plugin: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"option 'power' of 'mine' has the default -1.0, but it"):
        load_suite(plugin("power: Positive = -1.0"))


@pytest.mark.parametrize("value", [0, -3, "1e-320"])
def test_a_plugin_s_range(value: Any, plugin: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"key 'methods.1.power' must be"):
        load_suite(plugin("power: Annotated[float, Gt(0.5), Le(2)] = 1.0", power=value))
    suite = load_suite(plugin("power: Annotated[float, Gt(0.5), Le(2)] = 1.0", power=2))
    assert suite.methods[1].terms()[0].options == {"power": 2.0}


# --- tuples -----------------------------------------------------------------------


def test_a_list_of_a_suite_is_a_tuple_of_a_method(plugin: Callable[..., Path]) -> None:
    suite = load_suite(plugin("layers: tuple[int, int] = (1, 2)", layers=[3, 4]))
    options = suite.methods[1].terms()[0].options
    assert options == json.loads(json.dumps(options)) == {"layers": [3, 4]}
    assert registry.get("method", "mine").arguments(options) == {"layers": (3, 4)}


def test_tuples_in_tuples_and_defaults(plugin: Callable[..., Path]) -> None:
    option = "pairs: tuple[tuple[int, float], ...] = ((1, 0.5),)"
    suite = load_suite(plugin(option))
    options = suite.methods[1].terms()[0].options
    assert options == {"pairs": [[1, 0.5]]}
    assert registry.get("method", "mine").arguments(options) == {"pairs": ((1, 0.5),)}


@pytest.mark.parametrize("value", [[1], [1, 2, 3], ["1", 2], 5, "ab", [1.5, 2]])
def test_a_tuple_of_another_length_or_type_is_refused(
    value: Any, plugin: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=r"key 'methods.1.layers"):
        load_suite(plugin("layers: tuple[int, int] = (1, 2)", layers=value))


def test_a_method_gets_its_tuple(plugin: Callable[..., Path]) -> None:
    import torch

    from wcordbench.methods.base import FeatureShapes, Setup
    from wcordbench.training.objective import Objective

    suite = load_suite(plugin("layers: tuple[int, ...] = ()", layers=[3, 4]))
    terms = [t.model_dump() for t in suite.methods[1].terms()]
    shapes = FeatureShapes((1, 4, 4), ((1, 4, 4),), 1, 2)
    objective = Objective({"gamma": 1.0, "terms": terms}, Setup(shapes, shapes, 2, torch.arange(2)))
    assert objective.methods[0].given == (3, 4)


# --- YAML 1.1 -----------------------------------------------------------------------


def read(write: Write, base: dict[str, Any], path: Path, line: str) -> Any:
    """A base suite of which a line is written as people write it."""
    file = write(base)
    file.write_text(file.read_text().replace("TEXT", line))
    return load_suite(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4), ("1e-3", 1e-3), ("1_000", 1000.0), ("2_500.5", 2500.5), ("+2", 2.0),
        (".5", 0.5), ("1.", 1.0), ("0x10", 16.0),
    ],
)  # fmt: skip
def test_numbers_are_what_people_mean(
    text: str, value: float, base: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    base["methods"] = [{"name": "dkd", "nckd": "TEXT"}]
    suite = read(write, base, tmp_path, text)
    assert suite.methods[0].terms()[0].options["nckd"] == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("010", "010 begins with 0, which can mean base 8; write 10, or '010' in quotes"),
        ("0777", "write 777"),
        ("0o17", "must be a number, not '0o17'"),
        ("1:30", "must be a number, not '1:30'"),
        ("20_26", "must be a number, not '20_26'"),
        ("yes", "must be a number, not 'yes'"),
        ("2026-11-25", "must be a number, not '2026-11-25'"),
    ],
)
def test_what_is_no_number_is_refused(
    text: str, sentence: str, base: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    base["methods"] = [{"name": "dkd", "nckd": "TEXT"}]
    with pytest.raises(UserError) as raised:
        read(write, base, tmp_path, text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("On", True), ("no", False), ("OFF", False), ("true", True)],
)
def test_a_word_is_true_or_false_where_that_is_asked_for(
    text: str, value: bool, base: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    base["train"]["nesterov"] = "TEXT"
    base["dataset"] = {
        "name": "imagefolder", "options": {"folder": "x", "grayscale": "TEXT"}, "mean": [0.5],
        "std": [0.5],
    }  # fmt: skip
    suite = read(write, base, tmp_path, text)
    assert suite.train.nesterov is value
    assert suite.dataset.resolved_options()["grayscale"] is value


def test_a_word_is_text_where_text_is_asked_for(
    base: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    """Folders of tumours are called yes and no, of years 2024_01."""
    base["dataset"] = {
        "name": "imagefolder", "options": {"folder": "TEXT"}, "mean": [0.5], "std": [0.5]
    }  # fmt: skip
    base["task"] = {"groups": {"a": ["TEXT"], "b": ["other"]}}
    base["methods"] = [{"name": "kd", "label": "TEXT"}]
    for text in ("yes", "no", "2024_01", "1:30", "2026-11-25"):
        suite = read(write, base, tmp_path, text)
        assert suite.dataset.resolved_options()["folder"] == text
        assert suite.task.groups["a"] == [text]
        assert suite.methods[0].title == text


def test_words_as_keys(base: dict[str, Any], write: Write, tmp_path: Path) -> None:
    base["dataset"] = {
        "name": "imagefolder", "options": {"folder": "x"}, "mean": [0.5], "std": [0.5]
    }  # fmt: skip
    base["task"] = "TEXT"
    suite = read(write, base, tmp_path, "{groups: {yes: [a], no: [b]}}")
    assert list(suite.task.groups) == ["yes", "no"]


def test_a_quoted_word_is_text(base: dict[str, Any], write: Write, tmp_path: Path) -> None:
    base["train"]["nesterov"] = "TEXT"
    with pytest.raises(UserError, match=r"must be true or false, not 'yes'"):
        read(write, base, tmp_path, "'yes'")


def test_not_a_number_is_refused() -> None:
    with pytest.raises(Mistake):
        resolve_options(registry.get("method", "kd"), {"temperature": math.nan})
