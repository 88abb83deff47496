"""``wcordbench fetch``: a suite's data and its published teachers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcordbench.cli.options import Data, Set, SuitePath

if TYPE_CHECKING:
    from wcordbench.data.base import Dataset
    from wcordbench.suite import Suite


def command(
    suite: SuitePath,
    set_: Set = None,
    data: Data = Path("data"),
    measure: Annotated[
        bool, typer.Option(help="Measure the teachers' test accuracy as well.")
    ] = True,
) -> None:
    """Download a suite's teachers and its data, and measure the teachers.

    A teacher is downloaded where the suite names a source:
    checkpoint: {url: https://…, sha256: …}. A broken download is continued by the same command,
    and every file is checked by its SHA-256. Each teacher's accuracy on the test images is
    printed beside the published one.
    """
    from wcordbench.data import base
    from wcordbench.data.download import download
    from wcordbench.data.notes import listening
    from wcordbench.suite import expand, load_suite

    def say(line: str) -> None:
        typer.echo(line, err=True)

    loaded = load_suite(suite, set_ or [])
    for source in {
        (s.url, s.file, s.sha256): s for p in loaded.pairs if (s := p.teacher.checkpoint)
    }.values():
        if source.url is not None:
            assert source.sha256 is not None
            new = download(source.url, Path(source.file), source.sha256, say)
            typer.echo(
                f"{source.file}: {'downloaded' if new else 'is there'}, its SHA-256 is right"
            )
    config = expand(loaded)[0].run.config["dataset"]
    with listening(say):
        dataset = base.load(config, data)
    typer.echo(
        f"{config['name']}: {len(dataset.train.labels):,} training and"
        f" {len(dataset.test.labels):,} test images of {len(dataset.classes)} classes"
    )
    if measure and any(p.teacher.checkpoint for p in loaded.pairs):
        typer.echo("\n" + _measured(loaded, dataset))


def _measured(suite: Suite, dataset: Dataset) -> str:
    from tabulate import tabulate

    from wcordbench.training.given import measure

    rows = []
    for (model, file), published in {
        (p.teacher.model, p.teacher.checkpoint.file): p.teacher.checkpoint.top1
        for p in suite.pairs
        if p.teacher.checkpoint is not None
    }.items():
        found = measure(suite, model, file, dataset)
        rows.append(
            [
                model,
                file,
                f"{found['test_top1']:.2f}",
                "–" if published is None else f"{published:.2f}",
                "–" if published is None else f"{found['test_top1'] - published:+.2f}",
            ]
        )
    headers = ["teacher", "file", "measured top-1", "published", "difference"]
    return tabulate(
        rows, headers, disable_numparse=True, colalign=("left", "left", "right", "right", "right")
    )
