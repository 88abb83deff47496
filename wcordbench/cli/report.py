"""``wcordbench report``: a suite's results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import (
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
) -> None:
    """Write one self-contained HTML page: tables, plots, and every run's details."""
    from wcordbench.reporting.report import page
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite

    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, expand(loaded), pair, method, seed)
    store = Store(existing(results))
    html = page(loaded, build(loaded, cells, store, None), cells, store, str(suite))
    write_out(out, html.encode())
    typer.echo(f"wrote {out}")
