"""What the renderers share: numbers, cells, names and records."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

from wcordbench.reporting.escape import csv_cell
from wcordbench.reporting.published import Number
from wcordbench.reporting.table import Entry, Table

#: Names as the paper prints them; an architecture that is not here keeps its own.
_NAMES = {
    "wrn_40_2": "WRN-40-2", "wrn_40_1": "WRN-40-1", "wrn_16_2": "WRN-16-2",
    "wrn_16_1": "WRN-16-1", "mobilenetv2": "MobileNetV2", "shufflenetv1": "ShuffleNetV1",
    "shufflenetv2": "ShuffleNetV2",
}  # fmt: skip


def printed(model: str) -> str:
    """An architecture's name as the papers print it."""
    return _NAMES.get(model, model)


def number(mean: float, std: float | None) -> str:
    """Mean ± deviation, where there is one."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def signed(value: float) -> str:
    """A difference with its sign; a true minus, which no font draws as short as a hyphen."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")  # no negative zero


def cell_text(entry: Entry, bold: Callable[[str], str] = str) -> str:
    """A cell in words.

    Args:
        entry: the cell.
        bold: how the best of a column is set off.
    """
    summary = entry.summary
    if summary is None or (summary.mean is None and not summary.undefined and not summary.failures):
        text = "–"
    elif summary.undefined is not None:
        text = "N/A"
    elif summary.mean is None:
        text = "failed"
    else:
        text = number(summary.mean, summary.std)
        if entry.best:
            text = bold(text)
        if not summary.complete:
            text += f" (n={len(summary.values)})"
    if entry.versus is not None and entry.versus.mark:
        text += f" {entry.versus.mark}"
    if entry.notes:
        text += f" [{', '.join(map(str, entry.notes))}]"
    if entry.published is not None:
        text += f" [{number(entry.published.mean, entry.published.std)}]"
    return text


def heading(table: Table, column: int) -> str:
    """A column's pair, with its label where the suite gives any."""
    pair = f"{printed(table.teachers[column])} → {printed(table.students[column])}"
    label = table.labels[column] if table.labels else ""
    return f"{label} ({pair})" if label else pair


def pair_record(table: Table, column: int) -> dict[str, Any]:
    """A column's pair, as CSV and JSON name its parts."""
    networks = {"teacher": table.teachers[column], "student": table.students[column]}
    return networks | ({"pair": table.names[column]} if table.labels else {})


def remarks_of(table: Table) -> list[str]:
    """The sentences under a table."""
    remarks = list(table.remarks)
    if table.compared:
        remarks.append("Δ: ours minus published, in points.")
    if table.ranks:
        remarks.append(
            "Mean rank: the method's place by mean in a column (1 is best), averaged over the"
            " columns it is ranked in, which are those in which it has as many seeds as any."
        )
        if any(rank.columns < rank.ranked for rank in table.ranks.values()):
            remarks[-1] += (
                " n: how many those are, where not all; such a rank is NOT comparable with others."
            )
    return remarks


def versus(table: Table, entry: Entry) -> dict[str, Any]:
    """The comparison of a cell with its table's baseline, as CSV and JSON name it."""
    found = entry.versus
    within = found.interval if found else None
    return {
        "baseline": table.baseline,
        "common_seeds": len(found.seeds) if found else 0,
        "difference": found.mean if found else None,
        "difference_low": within.low if within else None,
        "difference_high": within.high if within else None,
        "p": found.p if found else None,
        "p_holm": found.adjusted if found else None,
        "mark": found.mark if found else "",
    }


def summary_record(entry: Entry) -> dict[str, Any]:
    """What a cell's runs gave, as CSV and JSON name it."""
    s = entry.summary
    return {
        "mean": s.mean if s else None,
        "std": s.std if s else None,
        "seeds": len(s.values) if s else 0,
        "wanted": s.wanted if s else 0,
        "undefined": s.undefined if s else None,
        "failed": len(s.failures) if s else 0,
    }


def notes_of(table: Table, entry: Entry) -> str | None:
    """A cell's footnotes in words, as CSV and JSON give them."""
    return "; ".join(table.notes[i - 1] for i in entry.notes) or None


def number_record(number: Number | None) -> dict[str, Any]:
    """A published number, as CSV and JSON name its parts."""
    return {
        "published_mean": number.mean if number else None,
        "published_std": number.std if number else None,
        "published_source": number.source if number else None,
    }


def csv_text(records: list[dict[str, Any]]) -> str:
    """Records of the same keys as CSV with a header; see :func:`csv_cell` on text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in record.items()} for record in records)
    return out.getvalue().rstrip("\n")
