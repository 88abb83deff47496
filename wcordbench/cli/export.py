"""``wcordbench export``: every run with every parameter, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import Results, write_out
from wcordbench.errors import UserError

FORMATS = ("parquet", "csv")


def command(
    form: Annotated[str, typer.Option("--format", help="parquet or csv.")] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; by default csv goes to the screen, parquet to runs.parquet.",
            show_default=False,
        ),
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Write every run as one row with every parameter, score and provenance.

    From Python: wcordbench.results.load("results") is the same as a pandas DataFrame.
    """
    from wcordbench.registry import nearest
    from wcordbench.results import load

    if form not in FORMATS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, FORMATS)}")
    if form == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(
                "parquet needs pyarrow; install it with: pip install 'wcordbench[parquet]',"
                " or take --format csv"
            ) from None
    frame = load(results)
    if form == "parquet":
        out = out or Path("runs.parquet")
        data = frame.to_parquet(index=False)
    else:
        data = frame.to_csv(index=False).encode()
    damaged = int((frame["state"] == "damaged").sum())
    if damaged:
        typer.echo(
            f"wcordbench: {damaged} damaged run{'s' * (damaged > 1)}, in state 'damaged';"
            " wcordbench verify says what is wrong",
            err=True,
        )
    if out is None:
        typer.echo(data, nl=False)
        return
    write_out(out, data)
    typer.echo(f"wrote {out}: {len(frame)} runs, {len(frame.columns)} columns")
