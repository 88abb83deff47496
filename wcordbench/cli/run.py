"""``wcordbench run``: train what a suite describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcordbench.cli.options import (
    Data,
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    SuitePath,
    select,
)


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:0; CUDA where there is one.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads a worker.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Train failed runs again.")] = False,
) -> None:
    """Train every run of a suite that is not done yet."""
    from wcordbench.cli.progress import Progress
    from wcordbench.executors.local import Interrupted, LocalExecutor
    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite
    from wcordbench.suite.check import check_shapes
    from wcordbench.suite.plan import cohorts

    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, expand(loaded), pair, method, seed)
    check_shapes(loaded)
    store = Store(results)
    runs = list(dict.fromkeys(c.run for c in cells))
    if retry_failed:
        for run in runs:
            if store.folder(run).state == "failed":
                store.folder(run).retry()
    todo = [r for r in runs if store.folder(r).state in ("missing", "begun")]
    progress = Progress(runs, store)
    executor = LocalExecutor(results, data, device, workers, threads)
    with progress:
        try:
            executor.run(cohorts(todo), progress)
        except Interrupted:
            progress.note(
                "stopped; checkpoints are written, run the same command again to continue"
            )
            raise typer.Exit(130) from None
    failed = progress.summary()
    if failed:
        raise typer.Exit(1)
