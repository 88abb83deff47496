"""A run belongs to its code: versions of definitions, and what a plugin imports."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wcordbench import imports, registry
from wcordbench.errors import UserError
from wcordbench.suite import expand, load_suite
from wcordbench.suite.code import changed

Write = Callable[[dict[str, Any]], Path]

PLUGIN = """
from helper import power
from wcordbench.methods.base import Method
from wcordbench.registry import register_method

@register_method("mine", beta=1.0)
class Mine(Method):
    def forward(self, student, teacher, batch):
        return power(student.logits.float().square().mean())
"""


def at_version(monkeypatch: pytest.MonkeyPatch, kind: registry.Kind, name: str, n: int) -> None:
    known = registry.get
    monkeypatch.setattr(
        registry,
        "get",
        lambda k, m: replace(known(k, m), version=n) if (k, m) == (kind, name) else known(k, m),
    )


@pytest.mark.parametrize(
    ("kind", "name", "teachers", "runs"),
    [
        ("method", "kd", 0, {"kd", "crd+kd"}),
        ("model", "resnet14", 1, {"kd", "crd+kd", "ab"}),
        ("model", "resnet8", 0, {"student", "kd", "crd+kd", "ab"}),
        ("dataset", "digits", 1, {"student", "kd", "crd+kd", "ab"}),
    ],
)
def test_a_version_is_part_of_the_identity_where_it_is_not_the_first(
    kind: registry.Kind, name: str, teachers: int, runs: set[str], base: dict[str, Any],
    write: Write, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base["pairs"] = base["pairs"][:1]
    path = write(base)
    before = {(c.run.config["method"]["name"], c.seed, c.is_teacher): c.run
              for c in expand(load_suite(path))}  # fmt: skip
    at_version(monkeypatch, kind, name, 1)
    assert {c.run.id for c in expand(load_suite(path))} == {r.id for r in before.values()}
    at_version(monkeypatch, kind, name, 2)
    after = {(c.run.config["method"]["name"], c.seed, c.is_teacher): c.run
             for c in expand(load_suite(path))}  # fmt: skip
    new = {key for key in before if before[key].id != after[key].id}
    assert {method for method, _, teacher in new if not teacher} == runs
    assert sum(teacher for *_, teacher in new) == teachers
    run = before["kd", 0, False]
    if kind != "dataset" or teachers:
        assert changed(after["kd", 0, False].config) is None
        if (kind, name) != ("model", "resnet8") or "kd" in runs:
            said = f"it is of version 1 of the {kind} {name}, and the code here has version 2"
            assert said in str(changed(run.config))


def test_a_model_s_version_is_no_argument_of_its_constructor(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text("@register_model('m', width=4, version=3)\nclass M: pass")
    registry.add_plugin(file)
    entry = registry.get("model", "m")
    assert (entry.meta, entry.version) == ({"width": 4}, 3)


@pytest.mark.parametrize("version", ["0", "'2'", "1.5", "None", "True"])
def test_a_version_is_a_whole_number(version: str, tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(f"@register_model('m', version={version})\nclass M: pass")
    with pytest.raises(UserError, match=r"version of register_model must be a whole number above"):
        registry.add_plugin(file)


# --- what a plugin imports ----------------------------------------------------------


def identities(path: Path) -> dict[str, str]:
    registry.forget_plugins()
    runs = [c.run for c in expand(load_suite(path))]
    return {f"{r.config['method']['name']} {r.config['seed']}": r.id for r in runs}


@pytest.fixture
def mine(base: dict[str, Any], write: Write, tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "helper.py").write_text("from tools.powers import power\n")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("")
    (tmp_path / "tools" / "powers.py").write_text("from .base import two\npower = lambda x: x**two")
    (tmp_path / "tools" / "base.py").write_text("two = 2\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    base["plugins"], base["methods"] = ["mine.py"], ["student", "mine"]
    base["pairs"], base["seeds"] = base["pairs"][:1], [0]
    return write(base)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("mine.py", True), ("helper.py", True), ("tools/__init__.py", True),
        ("tools/powers.py", True), ("tools/base.py", True), ("unrelated.py", False),
    ],
)  # fmt: skip
def test_what_a_plugin_imports_of_the_users_own_is_part_of_it(
    file: str, part: bool, mine: Path
) -> None:
    before = identities(mine)
    edited = mine.parent / file
    edited.write_text(edited.read_text() + "# edited\n")
    after = identities(mine)
    assert before["student 0"] == after["student 0"]
    assert (before["mine 0"] != after["mine 0"]) == part


def test_a_plugin_alone_has_the_digest_of_its_text(tmp_path: Path) -> None:
    """The identities of runs that were stored before imports counted."""
    import hashlib

    file = tmp_path / "alone.py"
    file.write_text("import os, torch\nfrom wcordbench.registry import register_model\n")
    assert imports.own_imports(file) == {}
    assert imports.digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def test_a_plugin_finds_what_lies_beside_it(mine: Path) -> None:
    load_suite(mine)
    module = sys.modules[registry.get("method", "mine").load().__module__]
    assert module.power(3) == 9


def test_another_file_of_the_same_name_is_not_taken_for_it(mine: Path) -> None:
    load_suite(mine)
    registry.get("method", "mine").load()
    other = mine.parent / "other"
    other.mkdir()
    (other / "helper.py").write_text("power = None\n")
    text = PLUGIN.replace('"mine"', '"other"')
    (other / "other.py").write_text(text)
    with pytest.raises(UserError, match="rename one of the two files"):
        registry.add_plugin(other / "other.py")
        registry.get("method", "other").load()


def test_a_parcel_holds_what_the_plugin_needs_elsewhere(mine: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    for name, text in imports.parcel(mine.parent / "mine.py").items():
        (away / name).parent.mkdir(parents=True, exist_ok=True)
        (away / name).write_bytes(text)
    assert imports.digest(away / "mine.py") == imports.digest(mine.parent / "mine.py")
    assert not (away / "unrelated.py").exists()
    shutil.rmtree(away)


def test_an_import_that_leads_nowhere_is_left_to_python(tmp_path: Path) -> None:
    file = tmp_path / "p.py"
    file.write_text("import nowhere.at.all\nfrom . import x\nfrom .. import y\nimport json.tool\n")
    assert imports.own_imports(file) == {}
