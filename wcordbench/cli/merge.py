"""``wcordbench merge``: take in another machine's results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import Results
from wcordbench.errors import UserError


def command(
    folder: Annotated[Path, typer.Argument(help="The other results folder.", show_default=False)],
    results: Results = Path("results"),
) -> None:
    """Copy another folder's finished runs into this one, each after verifying it.

    A run is refused where a checksum or its identity does not hold, where it was trained on other
    images or taught by another teacher than the runs here, and where another result is here. A run
    that is here gets the weights and measurements that it lacks.

    Exit code 0: all of it is here. 1: something was refused, and is named.
    """
    from wcordbench.cli.progress import count
    from wcordbench.results.merge import merge
    from wcordbench.results.store import Store

    if not (folder / "runs").is_dir():
        raise UserError(f"{folder} holds no runs/; give a results folder")
    if folder.resolve() == results.resolve():
        raise UserError(f"{folder} is the results folder itself; give another one")
    found = merge(Store(folder), Store(results))
    for finding in found.refused:
        typer.echo(f"refused: {finding}")
    refused = len({f.path if f.path.is_dir() else f.path.parent for f in found.refused})
    completed = f" ({len(found.completed)} completed)" if found.completed else ""
    typer.echo(
        f"{count(len(found.taken), 'run')} taken from {folder}, {len(found.known)} were here"
        f"{completed}, {len(found.unfinished)} unfinished, {refused} refused"
    )
    if found.refused:
        raise typer.Exit(1)
