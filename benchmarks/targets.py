"""Targets against what was measured: python benchmarks/targets.py

Reads what the other benchmarks stored; measures nothing itself.
"""

from __future__ import annotations

import csv
from typing import Any

from common import RESULTS, write

#: benchmark, the column that has a target, and what names a row
SOURCES = [
    ("steps", "step/floor", ("pair", "method")),
    ("cohorts", "together/alone", ("pair", "methods")),
    ("plain", "times faster", ("method",)),
    ("footprint", "peak GiB", ("what",)),
    ("table", "seconds", ("command",)),
]


def rows_of(name: str) -> list[dict[str, str]]:
    """A stored benchmark's rows that have a target; none if it has not been run."""
    file = RESULTS / f"{name}.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["target"]]


def main() -> None:
    rows: list[dict[str, Any]] = []
    for name, column, keys in SOURCES:
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in rows_of(name):
            # Many methods have one target: the worst of them and what was missed are shown.
            group = tuple(row[k] for k in keys)
            if name == "steps":
                group = (f"{row['pair']}, {row['precision']}", row["target"])
            groups.setdefault(group, []).append(row)
        for group, members in groups.items():
            pick = min if name == "plain" else max
            worst = pick(members, key=lambda r: float(r[column]))
            what = (
                f"{group[0]}, {worst['method']} worst of {len(members)}" if name == "steps" else ""
            )
            sign = "≥" if name == "plain" else "≤"
            rows.append(
                {
                    "benchmark": name,
                    "what": what or ", ".join(group),
                    "measure": column,
                    "target": f"{sign} {worst['target']}",
                    "measured": worst[column],
                    "met": worst["met"],
                }
            )
    if not rows:
        raise SystemExit(f"nothing is stored in {RESULTS}; run the benchmarks first")
    write(
        "targets",
        "Targets against what was measured",
        rows,
        ["From the tables beside this one. By `python benchmarks/targets.py`, on:"],
    )


if __name__ == "__main__":
    main()
