"""``wcordbench forget``: remove runs from a results folder."""

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
)
from wcordbench.errors import UserError


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    teachers: Annotated[
        bool, typer.Option("--teachers", help="Remove the selected runs' teachers as well.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    results: Results = Path("results"),
) -> None:
    """Remove a suite's runs, selected as for wcordbench run; they will be trained anew.

    Their folders are listed first. Teachers stay unless --teachers is given, and a teacher of a
    finished run that stays is never removed. A run that is part of another suite is gone there
    as well.
    """
    from wcordbench.cli.progress import count
    from wcordbench.results.remove import check_removable, remove
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    loaded, store = load_suite(suite, set_ or []), Store(existing(results))
    cells = select(loaded, pair, method, seed)
    runs = dict.fromkeys(c.run for c in cells if teachers or not c.is_teacher)
    folders = [f for run in runs if (f := store.folder(run)).path.is_dir()]
    if not folders:
        raise UserError(f"{results} holds none of the selected runs of {suite}")
    check_removable(folders, store)
    for folder in folders:
        typer.echo(f"{folder.path} ({folder.state})")
    if not yes and not typer.confirm(f"Remove {count(len(folders), 'run')}?"):
        typer.echo("nothing was removed")
        raise typer.Exit(1)
    for folder in folders:
        remove(folder)
    typer.echo(f"removed {count(len(folders), 'run')}")
