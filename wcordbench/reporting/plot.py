"""A table as a picture: every seed a dot, every mean with its deviation."""

from __future__ import annotations

from pathlib import Path

from wcordbench.errors import UserError
from wcordbench.reporting.table import Table

FORMATS = (".png", ".svg", ".pdf")

#: Blue and vermilion of the palette of Okabe and Ito: told apart in print and by the colour-blind.
_SEED, _MEAN, _TEACHER = "#0072B2", "#D55E00", "#555555"


def dot_plot(table: Table, out: Path) -> None:
    """Draw a table: a panel a pair, a line a method.

    Args:
        table: with at least one finished cell.
        out: a file ending in one of :data:`FORMATS`.

    Raises:
        UserError: matplotlib is missing, the ending is unknown, the file cannot be written or
            nothing is finished.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: end it in {', '.join(FORMATS)}")
    try:
        import matplotlib
    except ImportError:
        raise UserError(
            "plots need matplotlib; install it with: pip install 'wcordbench[plots]'"
        ) from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    if not any(e.summary and e.summary.values for _, entries in table.rows for e in entries):
        raise UserError(f"{table.title}: nothing is finished yet; run the suite first")
    methods = [row for row in table.rows if row[0] != "Teacher"]
    teachers = next((entries for name, entries in table.rows if name == "Teacher"), [])
    # fixed, so that the same results give the same file
    matplotlib.rcParams.update(
        {"font.size": 8, "svg.hashsalt": "wcordbench", "svg.fonttype": "none"}
    )
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
    try:
        figure.savefig(out, dpi=200, metadata={"Date": None} if out.suffix == ".svg" else None)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)
