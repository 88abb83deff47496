"""``wcordbench rerun``: train one stored run again and compare."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from wcordbench.cli.options import Data, Plugins, Results, existing
from wcordbench.errors import UserError


def command(
    run: Annotated[
        str, typer.Argument(help="The run's folder name, or its end.", show_default=False)
    ],
    results: Results = Path("results"),
    data: Data = Path("data"),
    scratch: Annotated[
        Path | None,
        typer.Option(help="Train here and keep it; a temporary folder by default."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="The weights' file, where the suite gave one."),
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Train one stored run again in a scratch folder and compare it bit for bit.

    Exit code 0: not a bit differs, times aside. 1: something does, and is named with what
    else is not the same (device, threads, versions). 2: the run cannot be trained again.
    """
    from wcordbench import registry
    from wcordbench.results.store import Store
    from wcordbench.training.again import conditions, differences, find, train_again

    store = Store(existing(results))
    stored = find(store, run)
    for file in plugins or []:
        registry.add_plugin(file)

    def report(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch":
            done = event["epoch"] + 1
            typer.echo(f"epoch {done}/{event['epochs']}: loss {event['train_loss']:.4f}")
        elif event["kind"] == "note":
            typer.echo(event["line"])

    with tempfile.TemporaryDirectory() as temporary:
        place = scratch or Path(temporary)
        if scratch is not None and scratch.exists() and any(scratch.iterdir()):
            raise UserError(f"--scratch {scratch} is not empty; name a new folder")
        again = train_again(stored, store, place, data, checkpoint, report)
        found, changed = differences(stored, again), conditions(stored, again)
    for line in changed:
        typer.echo(line)
    if found:
        typer.echo(f"{stored.path.name} differs: {'; '.join(found)}")
        raise typer.Exit(1)
    typer.echo(f"{stored.path.name}: the same bits, weights and metrics")
