"""``wcordbench evaluate``: a stored student on images of another dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import Data, Plugins, Results, existing

StoredRun = Annotated[
    str, typer.Argument(help="The run's folder name, or its end.", show_default=False)
]
OtherDataset = Annotated[
    str,
    typer.Option(
        "--dataset",
        help="A dataset's name, what a suite says under dataset: in one line, or a suite's file.",
        show_default=False,
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="The measurement's name; by default the dataset's."),
]
Where = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:0.")]


def command(
    run: StoredRun,
    dataset: OtherDataset,
    name: Name = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    device: Where = "cpu",
    plugins: Plugins = None,
) -> None:
    """Measure a stored student on the test images of another dataset of the same classes.

    The accuracy is stored with the run; wcordbench table SUITE --metric NAME shows it.
    """
    from wcordbench.training.measure import measure, measure_accuracy

    typer.echo(
        measure(
            existing(results), run, dataset, name, data, device, measure_accuracy,
            plugins=plugins or (),
        )
    )  # fmt: skip
