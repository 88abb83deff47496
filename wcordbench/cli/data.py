"""``wcordbench data``: check, prepare and describe a suite's dataset."""

from __future__ import annotations

from pathlib import Path

from wcordbench.cli.options import Data, Set, SuitePath


def command(suite: SuitePath, set_: Set = None, data: Data = Path("data")) -> None:
    """Check, prepare and describe a suite's dataset, and print its mean and std to paste.

    What is decoded once is decoded now, and every image is looked at. Exit code 2: the dataset is
    missing or damaged; one sentence says what to do.
    """
    import typer

    from wcordbench.data.describe import prepared
    from wcordbench.suite import load_suite
    from wcordbench.suite.check import trainings
    from wcordbench.suite.runs import dataset_config
    from wcordbench.suite.transforms import cuts_whole

    loaded = load_suite(suite, set_ or [])
    name = loaded.dataset.title or loaded.dataset.name
    typer.echo(f"dataset:     {name}")
    config, chosen = dataset_config(loaded), loaded.dataset
    whole = {cuts_whole(t.train.config()) for t in trainings(loaded)}
    for line in prepared(config, data, chosen.memory, chosen.keeps_all, whole):
        typer.echo(line)
