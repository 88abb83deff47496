"""``wcordbench plot``: a suite's table as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import MethodOption, PairOption, Results, Set, SuitePath, select


def command(
    suite: SuitePath,
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")],
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    results: Results = Path("results"),
) -> None:
    """Draw a suite's table: every seed a dot, every mean with its deviation."""
    from wcordbench.reporting.plot import dot_plot
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite

    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, expand(loaded), pair, method, None)
    dot_plot(build(loaded, cells, Store(results), "none"), out)
    typer.echo(f"wrote {out}")
