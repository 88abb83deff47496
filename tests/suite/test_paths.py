"""Every path of a suite is relative to the suite's file, whatever the current folder is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite import expand, load_suite

PLUGIN = '''
from wcordbench.methods.base import Method
from wcordbench.registry import register_method

@register_method("mine", title="Mine")
class Mine(Method):
    """Mine."""
'''


@pytest.mark.parametrize("key", ["checkpoint", "pretrained"])
@pytest.mark.parametrize("written", ["w/t.pth", "./w/t.pth", "~/w/t.pth", "{here}/w/t.pth"])
def test_one_rule_for_all_paths(
    base: dict[str, Any],
    write: Callable[[dict[str, Any]], Path],
    key: str,
    written: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w").mkdir()
    (tmp_path / "w/t.pth").write_bytes(b"weights")
    (tmp_path / "w/p.py").write_text(PLUGIN)
    base["pairs"][0]["teacher"][key] = written.format(here=tmp_path)
    base["plugins"] = [written.format(here=tmp_path).replace("t.pth", "p.py")]
    file = write(base)
    elsewhere = tmp_path / "else/where"
    elsewhere.mkdir(parents=True)
    for folder, named in (
        (tmp_path, file.name),
        (elsewhere, f"../../{file.name}"),
        (Path("/"), file),
    ):
        monkeypatch.chdir(folder)
        suite = load_suite(named)
        cells = expand(suite)
        assert str(tmp_path / "w/t.pth") in {c.run.checkpoint for c in cells}
        assert [p.name for p in registry.plugins()] == ["p.py"]


@pytest.mark.parametrize("key", ["checkpoint", "pretrained"])
def test_the_place_that_was_looked_at_is_named(
    base: dict[str, Any], write: Callable[[dict[str, Any]], Path], key: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base["pairs"][0]["teacher"][key] = "gone.pth"
    file = write(base)
    place = tmp_path / "else"
    place.mkdir()
    monkeypatch.chdir(place)
    with pytest.raises(
        UserError, match=f"teacher.{key}': {tmp_path}/gone.pth does not exist; corr"
    ):
        expand(load_suite(file))
    (place / "gone.pth").write_bytes(b"weights")  # where earlier versions looked
    with pytest.raises(UserError) as error:
        load_suite(file)
    assert f"{tmp_path}/gone.pth does not exist, but {place}/gone.pth does" in str(error.value)
    base["pairs"][0]["teacher"][key] = "~nobody-of-this-name/t.pth"
    with pytest.raises(UserError, match="cannot be read"):
        load_suite(write(base))
