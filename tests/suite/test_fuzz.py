"""Whatever a suite holds, it is understood or refused with a sentence."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wcordbench.errors import UserError
from wcordbench.registry import catalogue
from wcordbench.suite import expand, load_suite
from wcordbench.suite.mistakes import mistakes
from wcordbench.suite.protocol import TrainOverride
from wcordbench.suite.schema import Suite

WORDS = [
    *Suite.model_fields, *TrainOverride.model_fields, *catalogue("method"), *catalogue("model"),
    *catalogue("dataset"), "crd+kd", "kd+", "timm:x", "step", "one_cycle", "type", "milestones",
    "name", "model", "teacher", "student", "label", "alpha", "beta", "gamma", "negatives",
    "options", "checkpoint", "folder", ".", "\0", "\ud800", "<<", "",
]  # fmt: skip

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**63, -(2**70), 10**400, float("nan"), float("inf"), -0.0, 1e-320]),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=5),
    st.dates(),
    st.binary(max_size=3),
)
KEYS = st.one_of(st.sampled_from(WORDS), st.text(max_size=3), st.integers(0, 3), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key of a tree."""
    items: list[tuple[Any, Any]] = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [(value, k) for k, _ in items] + [p for _, v in items for p in places(v)]


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, int, Any, Any]]:
    """What to do where: replace, delete or insert."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["replace", "delete", "insert", "copy"]),
                st.integers(0, 200),
                VALUES,
                KEYS,
            ),
            min_size=1,
            max_size=4,
        )
    )


def mutate(suite: Any, what: list[tuple[str, int, Any, Any]]) -> None:
    for action, number, value, key in what:
        found = places(suite)
        if not found:
            return
        container, at = found[number % len(found)]
        if action == "delete":
            del container[at]
        elif action == "replace":
            container[at] = value
        elif action == "copy":
            other, where = found[(number * 7 + 3) % len(found)]
            container[at] = copy.deepcopy(other[where])
        elif isinstance(container, list):
            container.insert(at, value)
        else:
            container[key] = value


def understand(path: Path, overrides: list[str]) -> None:
    try:
        for cell in expand(load_suite(path, overrides)):
            assert len(cell.run.id) == 16
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) <= 600
        assert str(error) in all_of(path, overrides)
    else:
        assert all_of(path, overrides) == []


def all_of(path: Path, overrides: list[str]) -> list[str]:
    """What ``validate`` says of the file."""
    try:
        return mistakes(path, overrides)[1]
    except UserError as error:
        return [str(error)]


FUZZ = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(what=changes())
def test_changed_suites(base: dict[str, Any], what: list[tuple[str, int, Any, Any]]) -> None:
    suite = copy.deepcopy(base)
    mutate(suite, what)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.yaml"
        path.write_bytes(
            yaml.dump(suite, allow_unicode=False).encode("utf-8", errors="surrogatepass")
        )
        understand(path, [])


@FUZZ
@given(
    keys=st.lists(st.sampled_from([*WORDS, "0", "1", "²", "-1", "99"]), min_size=1, max_size=4),
    sign=st.sampled_from(["=", "=", "=", ""]),
    value=st.one_of(st.sampled_from(["[1", "5e-4", "{a: b}", "*x", "!!bool x", "? "]), st.text()),
)
def test_overrides(
    base: dict[str, Any], tmp_path: Path, keys: list[str], sign: str, value: str
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(base))
    understand(path, [".".join(keys) + sign + value])


@FUZZ
@given(text=st.text(alphabet="ab:- \n[]{},&*!|>'\"#%?~0.e\t<", max_size=60), at=st.integers(0, 900))
def test_changed_text(base: dict[str, Any], tmp_path: Path, text: str, at: int) -> None:
    path = tmp_path / "suite.yaml"
    whole = yaml.safe_dump(base)
    path.write_text(whole[:at] + text + whole[at:])
    understand(path, [])


@FUZZ
@given(content=st.binary(max_size=200))
def test_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "suite.yaml"
    path.write_bytes(content)
    understand(path, [])
