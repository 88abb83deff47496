"""``wcordbench compare``: methods against a baseline, results against the published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import (
    BaselineOption,
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    SuitePath,
    existing,
    select,
    with_baseline,
)
from wcordbench.errors import UserError
from wcordbench.results.statistics import CONFIDENCE, MARGIN


def command(
    suite: SuitePath,
    baseline: BaselineOption = None,
    form: Annotated[str, typer.Option("--format", help="text, markdown, csv or json.")] = "text",
    confidence: Annotated[
        float, typer.Option(help="Of the intervals; 1 minus it is the level of the tests.")
    ] = CONFIDENCE,
    margin: Annotated[
        float,
        typer.Option(help="Points from a published mean that still count as reproduced."),
    ] = MARGIN,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
) -> None:
    """Say what differs from a baseline and what reproduces the published numbers, and how surely.

    docs/statistics.md explains the intervals, the tests and the verdicts.
    """
    from wcordbench.registry import nearest
    from wcordbench.reporting.compare import against, baseline_of, judged, not_judged
    from wcordbench.reporting.render_compare import FORMATS, render
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    if form not in FORMATS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, FORMATS)}")
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence {confidence:g} is not within 0.5 and 1; give 0.95 or so")
    if not 0 < margin <= 100:
        raise UserError(f"--margin {margin:g} is not within 0 and 100 points; give 0.5 or so")
    loaded = load_suite(suite, set_ or [])
    base = baseline_of(loaded, baseline)
    cells = select(loaded, pair, with_baseline(method, base), seed)
    store = Store(existing(results))
    if not any(store.folder(c.run).state == "done" for c in cells):
        raise UserError(f"no run of {suite} is done in {results}; run the suite first")
    table = against(build(loaded, cells, store, None), base, confidence)
    reason = not_judged(loaded)
    if reason is None:
        table = judged(table, margin, confidence)
    typer.echo(render(table, form, reason, margin, confidence))
