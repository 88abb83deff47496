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

    A teacher is downloaded where the suite names a source: checkpoint: {url: https://…, sha256:
    …}, or true for timm's own weights. A broken download is continued by the same command, and
    a file whose SHA-256 the suite gives is checked by it. Each teacher's accuracy on the test
    images is printed beside the published one.
    """
    from wcordbench.data import base
    from wcordbench.data.download import download
    from wcordbench.data.notes import listening
    from wcordbench.models.timm_adapter import save_pretrained
    from wcordbench.suite import expand, load_suite
    from wcordbench.suite.runs import file_digest

    def say(line: str) -> None:
        typer.echo(line, err=True)

    loaded = load_suite(suite, set_ or [])
    for pair in {p.teacher.checkpoint: p for p in loaded.pairs if p.teacher.checkpoint}.values():
        source = pair.teacher.checkpoint
        if source is None or not source.fetched:
            continue
        file = Path(source.file)
        if source.url is not None:
            assert source.sha256 is not None
            new, digest = download(source.url, file, source.sha256, say), "its SHA-256 is right"
        else:
            new = not file.is_file()
            if new:
                save_pretrained(pair.teacher.model.removeprefix("timm:"), file)
            digest = f"sha256: {file_digest(str(file))}"
        typer.echo(f"{file}: {'downloaded' if new else 'is there'}, {digest}")
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
    known: dict[tuple[str, str], dict[str, float]] = {}
    # Pairs of one file may say different published numbers: each is shown.
    for model, file, published in dict.fromkeys(
        (p.teacher.model, p.teacher.checkpoint.file, p.teacher.checkpoint.top1)
        for p in suite.pairs
        if p.teacher.checkpoint is not None
    ):
        if (model, file) not in known:
            known[model, file] = measure(suite, model, file, dataset)
        found = known[model, file]
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
