"""``wcordbench report``: a suite's results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import (
    Data,
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    SuitePath,
    existing,
    select,
    write_out,
)


def command(
    suite: SuitePath,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    correlation: Annotated[
        bool,
        typer.Option(
            "--correlation",
            help="Draw maps of class correlations too: needs the images and the students' weights.",
        ),
    ] = False,
    data: Data = Path("data"),
) -> None:
    """Write one self-contained HTML page: tables, comparisons, plots, and every run's details."""
    from wcordbench.reporting.report import page
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, pair, method, seed)
    store = Store(existing(results))
    maps = None
    if correlation:
        from wcordbench.training.correlations import correlation_differences

        first = [cell for cell in cells if cell.seed == (seed or loaded.seeds)[0]]
        maps = correlation_differences(loaded, first, store, data)
    html = page(loaded, cells, store, str(suite), maps)
    write_out(out, html.encode())
    typer.echo(f"wrote {out}")
