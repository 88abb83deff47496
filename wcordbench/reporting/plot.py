"""Pictures of results: a table as dots and bars, learning curves."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting.table import Table
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import Suite

#: A file by its name, or an open one that takes SVG.
Out = Path | io.BytesIO

FORMATS = (".png", ".svg", ".pdf")

#: Blue and vermilion of the palette of Okabe and Ito: told apart in print and by the colour-blind.
_SEED, _MEAN, _TEACHER = "#0072B2", "#D55E00", "#555555"
#: The palette's colours that show on white; markers and line styles tell lines apart without them.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS, _LINES = "osD^vXP", ("-", "--", ":", "-.")


def dot_plot(table: Table, out: Out) -> None:
    """Draw a table: a panel a pair, a line a method.

    Args:
        table: with at least one finished cell.
        out: a file ending in one of :data:`FORMATS`.

    Raises:
        UserError: matplotlib is missing, the ending is unknown, the file cannot be written or
            nothing is finished.
    """
    pyplot = _pyplot(out)
    if not any(e.summary and e.summary.values for _, entries in table.rows for e in entries):
        raise UserError(f"{table.title}: nothing is finished yet; run the suite first")
    methods = [row for row in table.rows if row[0] != "Teacher"]
    teachers = next((entries for name, entries in table.rows if name == "Teacher"), [])
    columns = len(table.students)
    figure, axes = pyplot.subplots(
        1,
        columns,
        figsize=(3.4 * columns, 0.9 + 0.26 * len(methods)),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    heights = [-i for i in range(len(methods))]
    for column, axis in enumerate(axes[0]):
        for height, (_, entries) in zip(heights, methods, strict=True):
            summary = entries[column].summary
            if summary is None or summary.mean is None:
                continue
            axis.plot(
                summary.values, [height] * len(summary.values), "o", color=_SEED, ms=3.5, alpha=0.7
            )
            axis.errorbar(
                summary.mean, height, xerr=summary.std, fmt="|", color=_MEAN, ms=11, capsize=3
            )
        teacher = teachers[column].summary if teachers else None
        if teacher is not None and teacher.mean is not None:
            axis.axvline(teacher.mean, color=_TEACHER, ls="--", lw=1)
            axis.annotate(
                "teacher", (teacher.mean, 0.02), xycoords=("data", "axes fraction"),
                rotation=90, ha="right", va="bottom", color=_TEACHER, fontsize=7,
            )  # fmt: skip
        axis.set_title(f"{table.teachers[column]} → {table.students[column]}", fontsize=8)
        axis.set_yticks(heights, [name for name, _ in methods])
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(f"{table.metric}\nseeds: dots; mean ± standard deviation: bars", fontsize=7)
    _save(pyplot, figure, out)


def curves(suite: Suite, cells: Iterable[Cell], store: Store, out: Out) -> None:
    """Draw the test accuracy of every epoch: a panel a pair, a line a method, seeds as a band.

    Args:
        suite: names the rows and the pairs.
        cells: its cells, or those to draw.
        store: where the runs are; finished ones and those still in training are drawn.
        out: as for :func:`dot_plot`.

    Raises:
        UserError: as :func:`dot_plot`, or metrics are damaged.
    """
    pyplot = _pyplot(out)
    drawn: dict[str, dict[str, list[list[float]]]] = {}
    for cell in cells:
        row = "Teacher" if cell.method is None else cell.method.title
        tests = _test_curve(store.folder(cell.run))
        if tests:
            drawn.setdefault(cell.pair.name, {}).setdefault(row, []).append(tests)
    if not drawn:
        raise UserError(f"{suite.title or suite.name}: no epoch is over yet; run the suite first")
    count, many = len(drawn), len({row for rows in drawn.values() for row in rows} - {"Teacher"})
    figure, axes = pyplot.subplots(
        1, count, figsize=(3.4 * count, 2.8 + 0.13 * many), squeeze=False, layout="constrained"
    )
    titles = [m.title for m in suite.methods]
    for axis, (pair, rows) in zip(axes[0], drawn.items(), strict=True):
        for row in (t for t in titles if t in rows):
            number = titles.index(row)
            seeds = rows[row]
            length = min(map(len, seeds))
            epochs = range(1, length + 1)
            columns = [[seed[i] for seed in seeds] for i in range(length)]
            style = {
                "color": _COLOURS[number % len(_COLOURS)],
                "ls": _LINES[number // len(_COLOURS) % len(_LINES)],
                "marker": _MARKERS[number % len(_MARKERS)],
            }
            means = [statistics.fmean(c) for c in columns]
            axis.plot(epochs, means, lw=1, ms=3, markevery=max(1, length // 8), label=row, **style)
            if len(seeds) > 1:
                axis.fill_between(
                    epochs, list(map(min, columns)), list(map(max, columns)),
                    color=style["color"], alpha=0.18, lw=0,
                )  # fmt: skip
        axis.set_title(pair.replace("->", " → "), fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    figure.supxlabel("epoch; lines: mean over seeds, bands: lowest to highest seed", fontsize=7)
    handles = {
        label: handle
        for axis in axes[0]
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), fontsize=6, ncols=3 * count, loc="outside upper center"
    )
    figure.supylabel("test top-1 (%)", fontsize=7)
    _save(pyplot, figure, out)


def _test_curve(folder: RunFolder) -> list[float]:
    if not (folder.path / "metrics.json").is_file():
        return []
    try:
        return [float(m["test_top1"]) for m in folder.read_json("metrics.json") if "test_top1" in m]
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f"{folder.path / 'metrics.json'} is damaged; delete {folder.path} to train again"
        ) from None


def _pyplot(out: Out) -> Any:
    """matplotlib, set up so that the same results give the same file.

    Raises:
        UserError: it is missing, or the file's ending is unknown.
    """
    if isinstance(out, Path) and out.suffix not in FORMATS:
        raise UserError(f"--out {out}: end it in {', '.join(FORMATS)}")
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "plots need matplotlib; install it with: pip install 'wcordbench[plots]'"
        ) from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update(
        {"font.size": 8, "svg.hashsalt": "wcordbench", "svg.fonttype": "none"}
    )
    return pyplot


def _save(pyplot: Any, figure: Any, out: Out) -> None:
    svg = not isinstance(out, Path) or out.suffix == ".svg"
    try:
        figure.savefig(
            out, dpi=200, format="svg" if svg else None, metadata={"Date": None} if svg else None
        )
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)
