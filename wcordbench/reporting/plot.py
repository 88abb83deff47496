"""What every picture shares: matplotlib, the page's width, colours, and writing the file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting.escape import legend
from wcordbench.reporting.sweep import SYMBOLS
from wcordbench.suite.schema import Pair

#: A file by its name, or an open one that takes SVG.
Out = Path | io.BytesIO

FORMATS = (".png", ".svg", ".pdf")

#: One column of a two-column page, in inches: every picture is drawn at this width, with no
#: text below 7 points, and panels stand below each other.
WIDTH = 3.3

#: The palette of Okabe and Ito, told apart in print and by the colour-blind; black is left to
#: what others are compared with. Markers and line styles tell lines apart without colour.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS, LINES = "osD^vX", ("-", "--", "-.")
INK, GREY = "#000000", "#555555"


def style(number: int) -> dict[str, Any]:
    """Colour, marker and line style of the line with a number, from 0."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "ls": LINES[number % len(LINES)],
        "lw": 1,
        "ms": 3.2,
    }


def shown(title: str) -> str:
    """A row's name with the parameters as the papers write them, for legends too."""
    for name, symbol in SYMBOLS.items():
        title = title.replace(f"{name} = ", f"{symbol} = ")
    return legend(title)


def heading(pair: Pair) -> str:
    """A pair as a panel's title."""
    return pair.shown


def columns(labels: list[str]) -> int:
    """How many columns of a legend fit the width, by its longest label."""
    longest = max((len(label) for label in labels), default=1)
    return max(1, min(4, int((WIDTH - 0.35) / (0.41 + 0.055 * longest))))


def pyplot_for(out: Out) -> Any:
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

    settings: dict[Any, Any] = {
        "font.size": 7, "axes.titlesize": 8, "figure.titlesize": 8, "figure.labelsize": 7,
        "axes.linewidth": 0.6, "grid.alpha": 0.3, "legend.frameon": False,
        "legend.handlelength": 2.2, "legend.columnspacing": 1.2,
        "text.parse_math": False,  # a label's dollars are dollars
        "svg.hashsalt": "wcordbench", "svg.fonttype": "none",
    }  # fmt: skip
    matplotlib.rcParams.update(settings)
    return pyplot


def save(pyplot: Any, figure: Any, out: Out) -> None:
    """Write and close a figure.

    Raises:
        UserError: the file cannot be written.
    """
    svg = not isinstance(out, Path) or out.suffix == ".svg"
    try:
        figure.savefig(
            out, dpi=300, format="svg" if svg else None, metadata={"Date": None} if svg else None
        )
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)
