"""``wcordbench export``: all runs as a table, or one run's network, for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wcordbench.cli.options import Data, Plugins, Results, existing, write_out
from wcordbench.errors import UserError

TABLES = ("parquet", "csv")
NETWORKS = ("state_dict", "safetensors", "torchscript", "onnx")


def command(
    run: Annotated[
        str | None,
        typer.Argument(
            help="A run by its name, its beginning or its end: its network is written.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="All runs as rows: csv or parquet. One run's network: state_dict, safetensors,"
            " torchscript or onnx.",
        ),
    ] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; by default csv goes to the screen, parquet to runs.parquet,"
            " a network to a file named like its run.",
            show_default=False,
        ),
    ] = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    plugins: Plugins = None,
) -> None:
    """Write all runs as one table, or one run's trained network for use elsewhere.

    A network's file holds the class names and the normalisation. torchscript and onnx files
    normalise themselves and take images (B, C, S, S) of values in [0, 1]. From Python:
    wcordbench.load_student(RUN), and wcordbench.results.load("results") for the table.
    """
    from wcordbench.registry import nearest

    if form not in TABLES + NETWORKS:
        raise UserError(f"--format {form!r} is unknown{nearest(form, TABLES + NETWORKS)}")
    if form in NETWORKS:
        if run is None:
            raise UserError(f"--format {form} writes one run's network; name the run")
        _network(run, form, out, existing(results), data, plugins or [])
    elif run is not None:
        raise UserError(
            f"--format {form} writes all runs; leave {run!r} out, or give --format state_dict,"
            " safetensors, torchscript or onnx for its network"
        )
    else:
        _table(form, out, results)


def _network(
    run: str, form: str, out: Path | None, results: Path, data: Path, plugins: list[Path]
) -> None:
    from wcordbench.training.deploy import FORMATS, load_student, packed

    student = load_student(run, results, data, plugins=plugins)
    card = student.card
    out = out or Path(card.run + FORMATS[form])
    write_out(out, packed(student, form))
    scores = ", ".join(f"{name} {value:.2f}%" for name, value in card.scores.items())
    typer.echo(
        f"wrote {out}: {card.model}, {len(card.classes)} classes, images of"
        f" {card.size}×{card.size} pixels with {card.channels} channel{'s' * (card.channels > 1)};"
        f" {scores} on {card.scored_on}"
    )


def _table(form: str, out: Path | None, results: Path) -> None:
    from wcordbench.results import load

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
        from wcordbench.reporting.escape import csv_cell

        texts: Any = dict.fromkeys(frame.select_dtypes("string"), object)
        data = frame.astype(texts).map(csv_cell).to_csv(index=False).encode()
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
