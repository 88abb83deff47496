"""``wcordbench validate``: check a suite without running it."""

from __future__ import annotations

from wcordbench.cli.options import Set, SuitePath


def command(suite: SuitePath, set_: Set = None) -> None:
    """Check a suite without running it."""
    import typer

    from wcordbench.suite import expand, load_suite
    from wcordbench.suite.check import check_shapes

    loaded = load_suite(suite, set_ or [])
    cells = expand(loaded)
    for warning in check_shapes(loaded):
        typer.echo(warning)
    runs = {c.run.id for c in cells}
    teachers = {c.run.id for c in cells if c.is_teacher}
    typer.echo(
        f"{suite}: valid; {len(loaded.pairs)} pairs × {len(loaded.methods)} methods ×"
        f" {len(loaded.seeds)} seeds = {len(runs)} runs, {len(teachers)} of them teachers"
    )
