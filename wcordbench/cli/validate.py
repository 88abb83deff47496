"""``wcordbench validate``: check a suite without running it."""

from __future__ import annotations

from wcordbench.cli.options import Set, SuitePath


def command(suite: SuitePath, set_: Set = None) -> None:
    """Check a suite without running it."""
    import typer

    from wcordbench.suite import expand, load_suite
    from wcordbench.suite.check import check_shapes, remarks

    loaded = load_suite(suite, set_ or [])
    cells = expand(loaded)
    for warning in check_shapes(loaded):
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
