"""The reference of the suite file: its page and its JSON Schema are what the schema says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from wcordbench import registry
from wcordbench.suite import load_suite, reference
from wcordbench.suite.load import _parse
from wcordbench.suite.schema import Suite

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "suites").glob("*.yaml"))
FIRST_LINE = "# yaml-language-server: $schema=suite.schema.json\n"
VALIDATOR = jsonschema.Draft202012Validator(reference.json_schema())


def test_the_committed_page_and_schema_are_made_from_the_schema() -> None:
    """After a change of the schema: make reference."""
    page, schema = ROOT / "docs" / "suites.md", ROOT / "suites" / reference.SCHEMA_FILE
    assert page.read_text("utf-8") == reference.markdown(), "run: make reference"
    assert schema.read_text("utf-8") == reference.as_json(), "run: make reference"


def models() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = []

    def add(model: type[BaseModel]) -> None:
        if model not in found and not model.__name__.endswith("Override"):
            found.append(model)
            for field in model.model_fields.values():
                for inner in reference._models(field.annotation):
                    add(inner)

    add(Suite)
    return found


def test_every_key_and_option_is_on_the_page_with_its_meaning() -> None:
    page = reference.markdown()
    for model in models():
        for name, field in model.model_fields.items():
            rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
            assert field.description, f"{model.__name__}.{name} says nothing"
            assert any(field.description.replace("|", "\\|") in row for row in rows), name
    for kind in ("method", "dataset"):
        for entry in registry.catalogue(kind).values():
            assert f"| `{entry.name}` |" in page
            assert all(f"`{option}`" in page for option in entry.options)


def test_every_number_that_has_one_says_its_unit() -> None:
    """By name: what counts epochs, pixels or images must say so."""
    units = {"epochs": "epochs", "size": "pixels a side", "batch_size": "images"}
    for model in models():
        for name, field in model.model_fields.items():
            if name in units:
                assert reference._unit(field) == units[name], f"{model.__name__}.{name}"


def test_the_examples_are_valid(tmp_path: Path, base: dict[str, Any]) -> None:
    """Each row's example, put at its place in a valid suite, is taken by editors' schema."""
    section, tried = "", 0
    places = {
        "The top level": (), "dataset": ("dataset",), "train": ("train",),
        "pairs": ("pairs", 0), "views.teacher, views.student": ("views", "student"),
        "train.augment": ("train", "augment"), "pairs.teacher": ("pairs", 0, "teacher"),
    }  # fmt: skip
    for line in reference.markdown().splitlines():
        if line.startswith("## "):
            section = line[3:]
        match = re.fullmatch(r"\| `\w+` \|.*\| `(\w+): (.*)` \|", line)
        if match is None or section not in places:
            continue
        suite = yaml.safe_load(yaml.safe_dump(base))
        target: Any = suite
        for part in places[section]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
        target[match[1]] = yaml.safe_load(match[2])
        assert not list(VALIDATOR.iter_errors(suite)), line
        tried += 1
    assert tried > 30


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.stem)
def test_shipped_suites_name_the_schema_and_fit_it(path: Path) -> None:
    assert path.read_text("utf-8").startswith(FIRST_LINE)
    load_suite(path)
    assert [e.message for e in VALIDATOR.iter_errors(_parse(path.read_text("utf-8")))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sedes",), [0]), (("train", "epochs"), "ten"), (("train", "epochs"), 0),
        (("train", "learningrate"), 0.1), (("train", "schedule"), {"type": "cosin"}),
        (("train", "schedule"), {"type": "step", "milestone": [3]}), (("metric",), "top2"),
        (("dataset", "mean"), []), (("pairs",), []), (("pairs", 0, "techer"), "resnet8"),
        (("pairs", 0, "train"), {"epoch": 3}), (("methods", 1), 7), (("seeds",), [-1]),
        (("methods", 2, "negatives"), "many"), (("methods", 2, "beta"), -1),
        (("views",), {"student": {"size": 0}}), (("pairs", 0, "train"), None),
    ],
)  # fmt: skip
def test_editors_see_what_validate_refuses(
    path: tuple[Any, ...], value: Any, base: dict[str, Any]
) -> None:
    assert VALIDATOR.is_valid(base)
    target: Any = base
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = value
    assert not VALIDATOR.is_valid(base)


def test_plugins_timm_and_sweeps_fit_the_schema(base: dict[str, Any]) -> None:
    base["pairs"][0] = {"teacher": "timm:resnet18", "student": "my_net"}
    base["methods"] += ["l2", {"name": "wcord", "lambda1": {"sweep": [0, 0.1]}, "beta": 0.5}]
    assert VALIDATOR.is_valid(base)
