"""A table as a dot plot: seeds, means with intervals, published values."""

from __future__ import annotations

from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting import plot
from wcordbench.reporting.parts import heading
from wcordbench.reporting.plot import Out
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.statistics import CONFIDENCE, interval

_SEED, _MEAN, _PUBLISHED = plot.COLOURS[0], plot.COLOURS[1], plot.INK
PUBLISHED, NOT_ALIKE = "published", "published, another configuration"
_LEGEND = ("seed", f"mean, {CONFIDENCE:.0%} interval", PUBLISHED, NOT_ALIKE, "teacher")
#: Heights of a line of a panel, of what is around the lines, and of the legend, in inches.
_ROW, _FRAME, _FOOT = 0.17, 0.55, 0.35


def dot_plot(table: Table, out: Out) -> None:
    """Draw a table: a panel a pair, a line a method.

    Args:
        table: with at least one finished cell.
        out: a file ending in one of :data:`wcordbench.reporting.plot.FORMATS`.

    Raises:
        UserError: matplotlib is missing, the ending is unknown, the file cannot be written or
            nothing is finished.
    """
    pyplot = plot.pyplot_for(out)
    if not any(e.summary and e.summary.values for _, entries in table.rows for e in entries):
        raise UserError(f"{table.title}: nothing is finished yet; run the suite first")
    methods = [row for row in table.rows if row[0] != "Teacher"]
    teachers = next((entries for name, entries in table.rows if name == "Teacher"), [])
    count = len(table.students)
    height = _FOOT + count * (_FRAME + _ROW * len(methods))
    figure, axes = pyplot.subplots(
        count, 1, figsize=(plot.WIDTH, height), squeeze=False, layout="constrained"
    )
    for column, axis in enumerate(axes[:, 0]):
        for row, (_, entries) in enumerate(methods):
            _draw(axis, -row, entries[column])
        axis.set_ylim(-len(methods) + 0.4, 0.6)
        axis.set_yticks([-r for r in range(len(methods))], [plot.shown(n) for n, _ in methods])
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
        teacher = _teacher(axis, teachers[column]) if teachers else ""
        pair = heading(table, column)
        axis.set_title("\n".join(filter(None, (pair, teacher))), fontsize=7, loc="left")
    handles = {
        label: handle
        for axis in axes[:, 0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    handles = {label: handles[label] for label in _LEGEND if label in handles}
    figure.legend(
        handles.values(), handles.keys(), ncols=len(handles), loc="outside lower center",
        title=table.metric, title_fontsize=7, handletextpad=0.3, handlelength=1.6,
    )  # fmt: skip
    plot.save(pyplot, figure, out)


def _draw(axis: Any, height: int, entry: Entry) -> None:
    summary = entry.summary
    if entry.published is not None:
        axis.errorbar(
            entry.published.mean, height - 0.27, xerr=entry.published.std, fmt="D", ms=3.2,
            color=_PUBLISHED, mfc="white", mew=0.8, elinewidth=0.8,
            label=PUBLISHED if entry.alike else NOT_ALIKE,
        )  # fmt: skip
    if summary is None or summary.mean is None:
        if summary is not None and (summary.undefined or summary.failures):
            text = "N/A" if summary.undefined else "failed"
            axis.annotate(
                text, (0.01, height), xycoords=("axes fraction", "data"), va="center",
                color=plot.GREY,
            )  # fmt: skip
        return
    axis.plot(
        summary.values, [height] * len(summary.values), "o", color=_SEED, ms=3, mew=0, alpha=0.6,
        label="seed",
    )  # fmt: skip
    around = interval(summary.values)
    if around is not None:
        axis.errorbar(
            summary.mean, height, xerr=[[summary.mean - around.low], [around.high - summary.mean]],
            fmt="|", color=_MEAN, ms=7, mew=1.3, elinewidth=1, capsize=2, zorder=3,
            label=_LEGEND[1],
        )  # fmt: skip


def _teacher(axis: Any, entry: Entry) -> str:
    """The teacher in words; a line too, unless it stands so far off that it would squeeze all."""
    mean = entry.summary.mean if entry.summary else None
    words = []
    if mean is not None:
        words.append(f"teacher {mean:.2f}")
        low, high = axis.get_xlim()
        if low - 0.6 * (high - low) < mean < high + 0.6 * (high - low):
            axis.axvline(mean, color=plot.GREY, ls="--", lw=0.9, label="teacher")
    if entry.published is not None:
        other = "" if entry.alike else ", another configuration"
        words.append(f"published teacher {entry.published.mean:.2f}{other}")
    return ", ".join(words)
