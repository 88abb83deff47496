"""``wcordbench schema``: the suite file described."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import write_out
from wcordbench.errors import UserError

FORMATS = ("json", "markdown")


def command(
    form: Annotated[str, typer.Option("--format", help="json or markdown.")] = "json",
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; the screen by default.", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of the suite file, or its reference as a page.

    Editors complete and check YAML with it where a suite's first line names it:
    # yaml-language-server: $schema=suite.schema.json
    """
    from wcordbench.registry import nearest
    from wcordbench.suite.reference import as_json, markdown

    if form not in FORMATS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, FORMATS)}")
    text = as_json() if form == "json" else markdown()
    if out is None:
        typer.echo(text, nl=False)
        return
    write_out(out, text.encode())
    typer.echo(f"wrote {out}")
