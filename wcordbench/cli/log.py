"""``wcordbench log``: finished runs for TensorBoard, Weights & Biases and MLflow."""

from __future__ import annotations

from pathlib import Path

import typer

from wcordbench.cli.options import (
    MethodOption,
    MlflowUri,
    PairOption,
    Results,
    SeedOption,
    Set,
    SuitePath,
    TensorBoardFolder,
    WandbProject,
    existing,
    select,
)
from wcordbench.errors import UserError


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    tensorboard: TensorBoardFolder = None,
    wandb: WandbProject = None,
    mlflow: MlflowUri = None,
) -> None:
    """Tell TensorBoard, Weights & Biases or MLflow of a suite's finished runs.

    As wcordbench run does with the same flags while it trains.
    """
    from wcordbench.cli.progress import count
    from wcordbench.reporting.listener import listeners, replay
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    if tensorboard is None and wandb is None and mlflow is None:
        raise UserError("say where: --tensorboard FOLDER, --wandb PROJECT or --mlflow URI")
    loaded, store = load_suite(suite, set_ or []), Store(existing(results))
    runs = [c.run for c in select(loaded, pair, method, seed)]
    if not any(store.folder(run).state == "done" for run in runs):
        raise UserError(f"no run of {suite} is done in {results}; run the suite first")
    told = listeners(loaded.name, runs, tensorboard, wandb, mlflow)
    try:
        number = replay(runs, store, told)
    finally:
        for listener in told:
            listener.close()
    typer.echo(f"told of {count(number, 'finished run')}")
