"""``wcordbench init``: a suite to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.errors import UserError

#: what a new user is shown first
DEFAULT = "digits_kd"


def command(
    folder: Annotated[
        Path, typer.Argument(help="Where to put it; made if it is not there.", show_default=False)
    ],
    suite: Annotated[
        str, typer.Option(help="Which shipped suite; wcordbench list suites names them.")
    ] = DEFAULT,
) -> None:
    """Copy a commented suite into a folder, to run and to change.

    No suite that is there is overwritten; the schema beside it is brought up to date.
    """
    from wcordbench import registry
    from wcordbench.results.store import StorageError, write_atomic
    from wcordbench.suite.reference import SCHEMA_FILE
    from wcordbench.suite.shipped import shipped

    known = shipped()
    if suite not in known:
        raise UserError(f"--suite {suite!r} is not shipped{registry.nearest(suite, known)}")
    source = known[suite]
    files = [f for f in (source, source.parent / SCHEMA_FILE) if f.is_file()]
    target = folder / source.name
    alike = target.is_file() and target.read_bytes() == source.read_bytes()
    if target.exists() and not alike:
        raise UserError(f"{target} is there and is another file; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            write_atomic(folder / file.name, file.read_bytes())
    except (OSError, StorageError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("; ")[0]
        raise UserError(f"{folder} cannot be written ({reason}); name another folder") from None
    typer.echo(f"wrote {target}; change it, then")
    for line in (
        f"wcordbench validate {target}",
        f"wcordbench run {target}",
        f"wcordbench table {target}",
    ):
        typer.echo(f"  {line}")
