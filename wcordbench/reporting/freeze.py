"""What the shipped suites expand to, written down: the configurations of the published numbers.

``python -m wcordbench.reporting.freeze`` writes ``published.json`` anew, after a suite of
:data:`wcordbench.reporting.published.PROTOCOLS`, ``published.csv`` or a definition's version has
changed; a test says when it is out of date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wcordbench.reporting.configuration import of_run
from wcordbench.reporting.published import PROTOCOLS, Number, architecture, named, numbers
from wcordbench.suite.load import load_suite
from wcordbench.suite.runs import Cell, expand

FILE = Path(__file__).parent / "published.json"


def frozen(suites: Path) -> str:
    """The text of ``published.json``: every different part of a configuration once.

    Args:
        suites: the folder of the shipped suites.

    Raises:
        ValueError: several cells of a protocol's suites could be a number's.
    """
    parts: dict[str, int] = {}
    runs: dict[str, Any] = {}
    for protocol, names in PROTOCOLS.items():
        cells: list[Cell] = []
        for name in names:
            suite = load_suite(suites / f"{name}.yaml")
            cells += expand(suite.model_copy(update={"seeds": suite.seeds[:1]}))
        for metric in ("top1", "auc"):
            for rule in ("last", "best"):
                for (teacher, student, _), found in numbers(metric, rule).items():
                    for number in found:
                        if number.protocol != protocol:
                            continue
                        config = _configuration(number, teacher, student, cells)
                        if config is not None:
                            key = f"{protocol} {teacher} {student} {number.method}"
                            runs[key] = _packed(config, parts)
    of = [f"{json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(runs.items())]
    lines = ['{"parts": [', ",\n".join(parts), '],\n"runs": {', ",\n".join(of), "}}"]
    return "\n".join(lines) + "\n"


def _configuration(
    number: Number, teacher: str, student: str, cells: list[Cell]
) -> dict[str, Any] | None:
    """The configuration of the one cell that a number can be of; None where there is none."""
    found: dict[str, dict[str, Any]] = {}
    for cell in cells:
        pair = (architecture(cell.pair.teacher.model), cell.pair.student)
        if pair != (teacher, student):
            continue
        # A name without options is the row's that has the method's name, not a variant's.
        variant = cell.method is not None and cell.method.label and "(" not in number.method
        if named(number.method, cell) and not variant:
            config = of_run(cell.run)
            found[json.dumps(config, sort_keys=True)] = config
    if len(found) > 1:
        raise ValueError(f"{number} could be of {len(found)} cells of its suites")
    return next(iter(found.values()), None)


def _packed(config: dict[str, Any], parts: dict[str, int]) -> dict[str, Any]:
    packed: dict[str, Any] = {}
    for key, value in config.items():
        if key == "teacher":
            packed[key] = None if value is None else _packed(value, parts)
        else:
            text = json.dumps(value, sort_keys=True)
            packed[key] = parts.setdefault(text, len(parts))
    return packed


if __name__ == "__main__":
    FILE.write_text(frozen(Path(__file__).parents[2] / "suites"), encoding="utf-8")
    print(f"wrote {FILE}")
