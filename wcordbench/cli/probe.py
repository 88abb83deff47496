"""``wcordbench probe``: a linear classifier of a stored student's frozen features."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.evaluate import Name, OtherDataset, StoredRun, Where
from wcordbench.cli.options import Data, Plugins, Results, existing
from wcordbench.errors import UserError


def command(
    run: StoredRun,
    dataset: OtherDataset,
    name: Name = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    device: Where = "cpu",
    plugins: Plugins = None,
    c: Annotated[
        float, typer.Option("--c", help="Inverse of the regularisation, as scikit-learn's C.")
    ] = 1.0,
) -> None:
    """Train a linear classifier on a stored student's frozen features of another dataset.

    The transfer experiment of the CRD paper: logistic regression on the training images, tested
    on the test images. The accuracy is stored with the run as probe:NAME, and
    wcordbench table SUITE --metric probe:NAME shows it.
    """
    from wcordbench.training.measure import measure, measure_probe

    if not 0 < c < float("inf"):
        raise UserError(f"--c {c:g} is not a positive number; give one such as 1.0")
    how = functools.partial(measure_probe, regularisation=c)
    typer.echo(
        measure(existing(results), run, dataset, name, data, device, how, "probe:", plugins or ())
    )
