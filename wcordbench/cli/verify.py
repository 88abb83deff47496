"""``wcordbench verify``: recompute hashes and checksums over a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import Results, Set, existing
from wcordbench.errors import UserError


def command(
    suite: Annotated[
        Path | None,
        typer.Argument(help="Only this suite's runs; all by default.", show_default=False),
    ] = None,
    set_: Set = None,
    results: Results = Path("results"),
) -> None:
    """Recompute identities and checksums and name every file that does not belong.

    Exit code 0: all is as it was written. 1: something is not, and is named. 2: there is
    nothing to verify.
    """
    from wcordbench.results.store import Store
    from wcordbench.results.verify import verify
    from wcordbench.suite import expand, load_suite

    existing(results)
    only = None if suite is None else [c.run for c in expand(load_suite(suite, set_ or []))]
    count, findings = verify(Store(results), only)
    if not count and not findings:
        of = "" if suite is None else f" of {suite}"
        raise UserError(f"{results} holds no run{of}; name another folder with --results")
    for finding in findings:
        typer.echo(str(finding))
    runs = f"{count} run{'s' * (count != 1)}"
    if findings:
        files = f"{len(findings)} file{'s' * (len(findings) != 1)}"
        typer.echo(f"{runs} in {results}: {files} not as they should be")
        raise typer.Exit(1)
    typer.echo(f"{runs} in {results}: every identity and checksum holds")
