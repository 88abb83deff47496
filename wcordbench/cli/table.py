"""``wcordbench table``: a suite's table from the run store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from wcordbench.cli.options import MethodOption, PairOption, Results, SeedOption, Set, select
from wcordbench.errors import UserError


def command(
    suite: Annotated[
        Path | None,
        typer.Argument(
            help="The suite's YAML file; without it, every suite in suites/ with a finished run.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="text, markdown, latex, csv or json.")
    ] = "text",
    compare: Annotated[
        str | None,
        typer.Option(
            help="published: set published numbers beside ours, none: never;"
            " by default where dataset and schedule are the published ones."
        ),
    ] = None,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
) -> None:
    """Print a suite's table: mean ± standard deviation over seeds, laid out as the paper's."""
    from wcordbench.registry import nearest
    from wcordbench.reporting.render import FORMATS, render
    from wcordbench.reporting.table import Compare, build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite

    if form not in FORMATS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, FORMATS)}")
    if compare not in (None, "published", "none"):
        raise UserError(f"--compare {compare!r} is unknown; valid: published, none")
    shown_beside = cast("Compare | None", compare)
    store = Store(results)
    if not results.is_dir():
        raise UserError(
            f"results folder {results} does not exist; run the suite first, or name another"
            " with --results"
        )
    if suite is not None:
        loaded = load_suite(suite, set_ or [])
        cells = select(loaded, expand(loaded), pair, method, seed)
        typer.echo(render(build(loaded, cells, store, shown_beside), form))
        return
    shown = 0
    for path in sorted(Path("suites").glob("*.yaml")):
        loaded = load_suite(path)
        cells = expand(loaded)
        if any(store.folder(c.run).state == "done" for c in cells):
            typer.echo("\n" * bool(shown) + render(build(loaded, cells, store, shown_beside), form))
            shown += 1
    if not shown:
        raise UserError(f"no suite in suites/ has a finished run in {results}; run one first")
