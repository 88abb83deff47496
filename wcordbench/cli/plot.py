"""``wcordbench plot``: a suite's results as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import (
    MethodOption,
    PairOption,
    Results,
    Set,
    SuitePath,
    existing,
    select,
)
from wcordbench.errors import UserError

KINDS = ("table", "curves")


def command(
    suite: SuitePath,
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")],
    kind: Annotated[
        str, typer.Option(help="table: every seed and mean; curves: test accuracy by epoch.")
    ] = "table",
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    results: Results = Path("results"),
) -> None:
    """Draw a suite's table (every seed a dot, every mean with its deviation) or its curves."""
    from wcordbench.registry import nearest
    from wcordbench.reporting.plot import curves, dot_plot
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite

    if kind not in KINDS:
        raise UserError(f"--kind {kind!r} is unknown{nearest(kind, KINDS)}")
    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, expand(loaded), pair, method, None)
    store = Store(existing(results))
    if kind == "curves":
        curves(loaded, cells, store, out)
    else:
        dot_plot(build(loaded, cells, store, "none"), out)
    typer.echo(f"wrote {out}")
