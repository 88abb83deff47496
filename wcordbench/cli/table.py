"""``wcordbench table``: a suite's table from the run store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcordbench.cli.options import (
    BaselineOption,
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    comparison,
    existing,
    select,
    with_baseline,
)
from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.reporting.published import Rule
    from wcordbench.reporting.table import Table
    from wcordbench.results.size import Size
    from wcordbench.results.store import Store
    from wcordbench.suite import Suite
    from wcordbench.suite.runs import Cell, Run


def command(
    suite: Annotated[
        Path | None,
        typer.Argument(
            help="The suite's YAML file; without it, every suite in suites/, or every"
            " shipped one, with a finished run.",
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
            " by default where a cell's whole configuration is the published one."
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="rows: one row a method, wide: one column a value of a sweep; by default wide"
            " for a suite that is one sweep, as the paper's Table 2."
        ),
    ] = None,
    significance: Annotated[
        bool, typer.Option("--significance", help="Mark what differs from --baseline: † ‡.")
    ] = False,
    baseline: BaselineOption = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="The epoch that a score is of: last, which counts; best on the TEST set, labelled"
            " as such; or both, a table each. Published numbers are those of the same rule."
        ),
    ] = None,
    best_epoch: Annotated[
        bool, typer.Option("--best-epoch", help="The same as --rule best.")
    ] = False,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Show a measurement of wcordbench evaluate or probe: NAME, or NAME/top5.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        bool,
        typer.Option(
            "--size",
            help="Add the parameters and multiply-accumulates of what is deployed, in millions.",
        ),
    ] = False,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
) -> None:
    """Print a suite's table: mean ± standard deviation over seeds, laid out as the paper's."""
    from wcordbench.registry import nearest
    from wcordbench.reporting.compare import against, baseline_of
    from wcordbench.reporting.render import FORMATS, one_text
    from wcordbench.reporting.table import build
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite
    from wcordbench.suite.shipped import nearby, suites_in

    if form not in FORMATS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, FORMATS)}")
    if layout not in (None, "rows", "wide"):
        raise UserError(f"--layout {layout!r} is unknown; valid: rows, wide")
    if baseline is not None and not significance:
        raise UserError("--baseline says what --significance compares with; give that as well")
    chosen = {"--set": set_, "--pair": pair, "--method": method, "--seed": seed}
    given = next((flag for flag, value in chosen.items() if value), None)
    if given is not None and suite is None:
        raise UserError(f"{given} is of one suite; name the suite")
    if metric is not None and suite is None:
        raise UserError("--metric shows a measurement of one suite's runs; name the suite")
    size_of = _size_of(form) if size else None
    rules = _rules(rule, best_epoch)
    shown_beside = comparison(compare)
    store = Store(existing(results))

    def text(loaded: Suite, cells: list[Cell], base: str | None) -> str:
        texts: dict[str, str] = {}
        for epoch in rules:
            table = build(loaded, cells, store, shown_beside, epoch, metric, size_of)
            if base is not None:
                table = against(table, base)
            texts[epoch] = _laid_out(loaded, table, form, layout)
        return one_text(texts, form)

    if suite is not None:
        loaded = load_suite(suite, set_ or [])
        base = baseline_of(loaded, baseline) if significance else None
        cells = select(loaded, pair, with_baseline(method, base), seed)
        typer.echo(text(loaded, cells, base))
        return
    shown, broken = 0, 0
    for path in suites_in(nearby()):
        try:  # one that is broken hides no other
            loaded = load_suite(path)
            if "best" in rules and loaded.metric != "top1":
                continue
            cells = expand(loaded)
            if not any(store.folder(c.run).state == "done" for c in cells):
                continue
            base = baseline_of(loaded, baseline) if significance else None
            one = text(loaded, cells, base)
        except UserError as error:
            typer.echo(f"wcordbench: left out: {error}", err=True)
            broken += 1
            continue
        typer.echo("\n" * bool(shown) + one)
        shown += 1
    if not shown and broken:
        raise UserError(f"no suite in {nearby()} can be shown; mend what is named above")
    if not shown:
        raise UserError(f"no suite in {nearby()} has a finished run in {results}; run one first")


def _size_of(form: str) -> Callable[[Run, Store], Size | None]:
    if form == "latex":
        raise UserError("--size is not laid out as LaTeX; give --format markdown, csv or json")
    from wcordbench.training.size import size_of  # networks are built, without weights

    return size_of


def _rules(rule: str | None, best_epoch: bool) -> list[Rule]:
    """The epochs to show, a table each."""
    from wcordbench.registry import nearest

    known: dict[str, list[Rule]] = {"last": ["last"], "best": ["best"], "both": ["last", "best"]}
    if rule is not None and rule not in known:
        raise UserError(f"--rule {rule!r} is unknown{nearest(rule, known)}")
    if best_epoch and rule not in (None, "best"):
        raise UserError(f"--best-epoch is --rule best, and --rule is {rule!r}; give one of them")
    return known[rule or ("best" if best_epoch else "last")]


def _laid_out(suite: Suite, table: Table, form: str, layout: str | None) -> str:
    """The table in the layout asked for, or the paper's for such a suite."""
    from wcordbench.reporting.render import render
    from wcordbench.reporting.sweep import only_swept, render_sweeps

    if layout == "wide" or (layout is None and only_swept(suite, table)):
        text = render_sweeps(suite, table, form)
        if text is not None:
            return text
        if layout == "wide":
            raise UserError(
                f"--layout wide: suite {suite.name!r} sweeps no parameter over numbers; leave it"
                " out, or write {sweep: [..]} for a value"
            )
    return render(table, form)
