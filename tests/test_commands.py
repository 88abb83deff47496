"""Every command that README and docs show is one that runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.cli.options import select
from wcordbench.results.store import Store
from wcordbench.suite import load_suite

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS: Any = typer.main.get_command(app)
#: what a command's name stands for in the pages, here
PLACES = {"RUN": "cifar100_resnet20_student_s0", "FILE": "suites/digits.yaml"}
#: commands that only read what is stored: they are run as they stand
PRINT = {"table", "compare", "list", "verify", "schema", "export", "plot", "report", "status"}


def shown() -> list[tuple[str, str, bool]]:
    """(page, command, whether it is a line to be typed and no mention in a sentence)."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"\s*(\S*/)?wcordbench ", line):
                    found.append((page.name, line.strip(), True))
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for span in re.findall(r"(?<!`)`(wcordbench [^`]*)`(?!`)", prose):
            found.append((page.name, " ".join(span.split()), ".yaml" in span))
    return list(dict.fromkeys(found))


def words(line: str) -> list[str]:
    """The command's arguments, less the comment."""
    return [PLACES.get(w, w) for w in shlex.split(line, comments=True)[1:]]


def test_there_are_commands() -> None:
    assert len([line for _, line, typed in shown() if typed]) > 25


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c, typed in shown() if not typed])
def test_what_a_sentence_names_exists(page: str, line: str) -> None:
    name, *flags = words(line)
    if name.startswith("-"):
        name, flags = "", [name]
    command = COMMANDS if not name else COMMANDS.commands[name]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    assert {flag for flag in flags if flag.startswith("-")} <= known


@pytest.mark.parametrize(("page", "line"), [(p, c) for p, c, typed in shown() if typed])
def test_what_is_to_be_typed_runs(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("suites", "results"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mine").symlink_to(ROOT / "suites")  # what `wcordbench init mine` makes
    (tmp_path / "docs").mkdir()
    name, *arguments = words(line)
    command = COMMANDS.commands[name]
    parsed = command.make_context(name, list(arguments)).params  # raises at an unknown flag
    finished = True
    if isinstance(parsed.get("suite"), Path):
        suite = load_suite(parsed["suite"], parsed.get("set_") or [])
        chosen = [parsed.get(key) for key in ("pair", "method", "seed")]
        cells = select(suite, *chosen)
        store = Store(parsed.get("results", Path("results")))
        finished = any(store.folder(cell.run).state == "done" for cell in cells)
    empty = name in ("table", "status") and parsed.get("metric") is None  # gaps are printed
    network = name == "export" and parsed.get("run") is not None  # weights are not committed
    if name in PRINT and (finished or empty) and not network:
        if "--watch" in arguments:  # it would wait for the end of the training
            at = arguments.index("--watch")
            del arguments[at : at + 2]
        done = CliRunner().invoke(app, [name, *arguments])
        assert done.exit_code == 0, done.output or done.exception
        out = parsed.get("out")
        assert out is None or Path(out).is_file()
