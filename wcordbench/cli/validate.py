"""``wcordbench validate``: check a suite without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import Set, SuitePath, select


def command(
    suite: SuitePath,
    set_: Set = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The folder that holds datasets: look at the suite's dataset as well."),
    ] = None,
) -> None:
    """Check a suite without running it, and name all of its mistakes.

    With --data its dataset is looked for and counted; nothing is downloaded or decoded.

    Exit code 2: there are mistakes, each a sentence on a line of its own.
    """
    from wcordbench.suite.check import check_shapes, remarks
    from wcordbench.suite.mistakes import mistakes

    loaded, wrong = mistakes(suite, set_ or [])
    notes = [] if loaded is None else check_shapes(loaded, wrong)
    if loaded is None or wrong:
        for sentence in dict.fromkeys(wrong):
            typer.echo(f"wcordbench: {sentence}", err=True)
        raise typer.Exit(2)
    cells = select(loaded, None, None, None, unfetched=True)  # what run trains
    if data is not None:
        from wcordbench.data.base import offline
        from wcordbench.data.describe import seen
        from wcordbench.suite.runs import dataset_config

        with offline():
            for line in seen(dataset_config(loaded), data):
                typer.echo(line)
    for warning in notes:
        typer.echo(str(warning))
    for remark in remarks(loaded):
        typer.echo(remark)
    runs = {c.run.id for c in cells}
    teachers = {c.run.id for c in cells if c.is_teacher}
    size = " × ".join(
        f"{len(things)} {what}{'s' * (len(things) != 1)}"
        for what, things in (
            ("pair", loaded.pairs),
            ("method", loaded.methods),
            ("seed", loaded.seeds),
        )
    )
    typer.echo(
        f"{suite} is valid: {size}; {len(runs)} run{'s' * (len(runs) != 1)} to train,"
        f" {len(teachers)} of them for teachers"
    )
