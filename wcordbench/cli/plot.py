"""``wcordbench plot``: a suite's results as a picture."""

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
    comparison,
    existing,
    select,
)
from wcordbench.errors import UserError

KINDS = ("table", "curves", "sweep", "correlation")


def command(
    suite: SuitePath,
    out: Annotated[Path, typer.Option(help="The file to write: .png, .svg or .pdf.")],
    kind: Annotated[
        str,
        typer.Option(
            help="table: every seed and mean; curves: test score by epoch; sweep: score by"
            " parameter; correlation: how students' logits correlate otherwise than the teacher's."
        ),
    ] = "table",
    compare: Annotated[
        str | None,
        typer.Option(
            help="Of a table or a sweep: published values beside ours (published) or never"
            " (none); by default where the whole configuration is the published one."
        ),
    ] = None,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
) -> None:
    """Draw a suite's results at one column's width.

    Maps of correlations are of one seed (the first, or --seed) and need the students' weights,
    which lie beside runs where they were trained.
    """
    from wcordbench.registry import nearest
    from wcordbench.reporting.plot_curves import curves
    from wcordbench.reporting.plot_sweep import sweep_plot
    from wcordbench.reporting.plot_table import dot_plot
    from wcordbench.reporting.remarks import cautions
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    if kind not in KINDS:
        raise UserError(f"--kind {kind!r} is unknown{nearest(kind, KINDS)}")
    loaded, store = load_suite(suite, set_ or []), Store(existing(results))
    if kind == "correlation":
        seed = seed or loaded.seeds[:1]
        if len(seed) > 1:
            raise UserError("--seed: a map of correlations is of one seed; give it once")
    cells = select(loaded, pair, method, seed)
    said: list[str] = []
    if kind == "curves":
        curves(loaded, cells, store, out)
    elif kind == "correlation":
        from wcordbench.reporting.plot_correlation import correlation_maps
        from wcordbench.training.correlations import correlation_differences

        correlation_maps(correlation_differences(loaded, cells, store, data), out)
    else:
        table = build(loaded, cells, store, comparison(compare))
        said = cautions(table.remarks)  # a picture has no place for them
        if kind == "sweep":
            sweep_plot(loaded, table, out)
        else:
            dot_plot(table, out)
    for caution in said:
        typer.echo(f"wcordbench: note: {caution}", err=True)
    typer.echo(f"wrote {out}")
