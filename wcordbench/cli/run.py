"""``wcordbench run``: train what a suite describes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcordbench.cli.options import (
    CohortSize,
    Data,
    Device,
    MethodOption,
    MlflowUri,
    PairOption,
    PerGpu,
    Results,
    SeedOption,
    Set,
    SuitePath,
    TensorBoardFolder,
    Threads,
    WandbProject,
    Workers,
    select,
)
from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.cli.progress import Progress
    from wcordbench.reporting.listener import Listener
    from wcordbench.results.store import Store
    from wcordbench.suite import Run, Suite
    from wcordbench.suite.check import Undefined
    from wcordbench.suite.plan import Cost, Costs
    from wcordbench.suite.runs import Cell

UNCOMMITTED = (
    "the code of wcordbench has changes that are not committed: its results say so, and no commit"
    " gives them again"
)


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    device: Device = None,
    executor: Annotated[
        str, typer.Option(help="Where jobs run: local, ray or slurm.", metavar="NAME")
    ] = "local",
    workers: Workers = None,
    threads: Threads = None,
    per_gpu: PerGpu = None,
    cohort_size: CohortSize = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A Ray cluster's host:port, or auto.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="Ray: train here on each node and bring results back.")
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.1, help="Ray: GiB a job; as many share a GPU as fit.")
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(help="sbatch's options: partition=gpu,gpus_per_node=1,time=12:00:00."),
    ] = None,
    compile_: Annotated[
        str,
        typer.Option(
            "--compile",
            help="torch.compile for students: off, default, or reduce-overhead (CUDA graphs).",
            metavar="MODE",
        ),
    ] = "off",
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, help="Minutes between checkpoints within an epoch.")
    ] = 10.0,
    tensorboard: TensorBoardFolder = None,
    wandb: WandbProject = None,
    mlflow: MlflowUri = None,
    costs: Annotated[
        Path | None,
        typer.Option(help="What wcordbench plan --save measured: jobs are ordered and cut by it."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Train failed runs again.")] = False,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain", help="Remove the selected students' results, and train them anew."
        ),
    ] = False,
) -> None:
    """Train every run of a suite that is not done yet.

    Exit code 0: every run is done. 1: some failed. 2: the suite or the data are wrong.
    130: stopped by Ctrl-C; the same command continues.
    """
    from wcordbench.cli.output import settle
    from wcordbench.cli.progress import Progress
    from wcordbench.data.notes import listening
    from wcordbench.executors.base import InterruptedRunError, Options, by_name
    from wcordbench.reporting.listener import listeners
    from wcordbench.results.earlier import of_other_code
    from wcordbench.results.groups import check_begun
    from wcordbench.results.images import compare_images
    from wcordbench.results.provenance import commit
    from wcordbench.results.store import Store
    from wcordbench.results.taught import check_teachers
    from wcordbench.suite import load_suite
    from wcordbench.suite.plan import cohorts

    own = {"ray-address": ray_address, "scratch": scratch, "gpu-memory": gpu_memory, "slurm": slurm}
    try:
        place = by_name(
            executor,
            Options(
                results, data, device, workers, threads, checkpoint_minutes, per_gpu, own, compile_
            ),
        )
        loaded = load_suite(suite, set_ or [])
        cells = select(loaded, pair, method, seed)
        cost = _cost if costs is None else _measured(costs)
        store = Store(results)
        runs = list(dict.fromkeys(c.run for c in cells))
        wanted = ("missing", "begun", "failed") if retry_failed else ("missing", "begun")
        todo = [r for r in runs if store.folder(r).state in wanted]
        anew = list(dict.fromkeys(c.run for c in cells if retrain and not c.is_teacher))
        if retrain:
            _check_anew(anew, store)
            todo = [r for r in runs if r in anew or r in todo]
        check_begun(set(todo) - set(anew), store)
        check_teachers(todo, store)
        lines: list[str] = []  # what is said before the training
        with listening(lines.append):
            lines += compare_images(set(runs) - set(todo), store, data)
        lines += filter(None, [of_other_code(todo, store)])
        if todo:
            from wcordbench.suite.check import check_fetched, check_shapes  # imports torch

            chosen = set(todo)
            check_fetched(loaded, [c for c in cells if c.run in chosen], suite)
            _look(loaded, data)
            if commit()["clean"] is False:
                lines.append(UNCOMMITTED)
            with listening(lines.append):
                undefined = check_shapes(loaded)
            store.prepare()
            _record(undefined, cells, store)
            todo = [r for r in todo if store.folder(r).state != "undefined"]
        for run in runs:
            store.folder(run).tidy()
        others = listeners(loaded.name, runs, tensorboard, wandb, mlflow)
        with contextlib.ExitStack() as after:
            for listener in others:
                after.callback(listener.close)
            if retrain:  # after all that may be refused
                _remove(anew, store)
            for run in todo:
                if store.folder(run).state == "failed":
                    store.folder(run).retry()
            progress = after.enter_context(Progress(runs, store, macs=_macs))

            def report(event: dict[str, Any]) -> None:
                progress(event)
                for listener in list(others):
                    if not _tell(listener, event, progress):
                        others.remove(listener)

            for line in lines:
                progress.note(line)
            place.run(cohorts(todo, cost, cohort_size), report)
    except InterruptedRunError as stop:
        what = "checkpoints are written" if stop.saved else "without new checkpoints"
        progress.note(f"stopped, {what}; run the same command again to continue")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:  # before or after the training
        typer.echo("stopped; run the same command again to continue", err=True)
        raise typer.Exit(130) from None
    finally:
        settle()
    failed = progress.summary()
    settle()
    if failed:
        raise typer.Exit(1)


def _tell(listener: Listener, event: dict[str, Any], progress: Progress) -> bool:
    """Tell a listener of an event; a full disk or a service that fails ends it, not the training.

    Returns:
        Whether it listens on.
    """
    try:
        listener(event)
    except Exception as error:  # other libraries raise anything
        progress.note(f"{type(listener).__name__} is told no more of this training: {error}")
        return False
    return True


def _check_anew(runs: list[Run], store: Store) -> None:
    """Before anything is removed: what is being trained, or taught others, stays."""
    from wcordbench.results.remove import check_removable

    check_removable([f for run in runs if (f := store.folder(run)).path.is_dir()], store)


def _remove(runs: list[Run], store: Store) -> None:
    from wcordbench.results.remove import remove

    for run in runs:
        if store.folder(run).path.is_dir():
            remove(store.folder(run))


def _record(undefined: list[Undefined], cells: list[Cell], store: Store) -> None:
    """Record what does not exist for its pair before anything trains: tables know it at once."""
    from wcordbench.results.store import RunBusyError

    reasons = {(u.pair.name, u.method.title): u.reason for u in undefined}
    for cell in cells:
        if cell.method is None:
            continue
        reason = reasons.get((cell.pair.name, cell.method.title))
        folder = store.folder(cell.run)
        if reason is not None and folder.state in ("missing", "begun"):
            with contextlib.suppress(RunBusyError), folder.lease():
                folder.begin(cell.run)
                folder.fail("undefined", reason)


def _look(suite: Suite, data: Path) -> None:
    """Find what is wrong with a folder of images before anything is trained or written.

    Raises:
        UserError: it is missing, or not what a network can be trained on.
    """
    from wcordbench import registry
    from wcordbench.data.base import listening, look
    from wcordbench.suite.runs import dataset_config
    from wcordbench.suite.schema import always_right

    if registry.get("dataset", suite.dataset.name).meta.get("files"):
        with listening(lambda line: None):  # noqa: ARG005 - those who train say it
            found = look(dataset_config(suite), data)
        if suite.metric == "top5" and len(found.classes) <= 5:
            raise suite.mistake(always_right(len(found.classes)), "metric")


def _measured(path: Path) -> Costs:
    """What a calibration says that runs cost."""
    from wcordbench.training.calibrate import Calibration

    return Calibration.load(path).cost


def _cost(run: Run) -> Cost:
    """Multiply-accumulates of a run: a step of training is three passes of its network."""
    from wcordbench.suite.plan import Cost, epochs

    student, teacher = _macs(run)
    return Cost(3 * student * epochs(run), teacher * epochs(run))


def _macs(run: Run) -> tuple[float, float]:
    """Multiply-accumulates an image of a run's network and of its teacher."""
    from wcordbench import models, registry

    config = run.config
    dataset = config["dataset"]
    meta = registry.get("dataset", dataset["name"]).meta
    size = dataset["size"] or meta.get("size") or dataset["options"].get("image_size", 32)
    shape = (meta.get("classes", 100), size, len(dataset["mean"]))
    try:
        teacher = models.macs(config["teacher"]["model"], *shape) if config["teacher"] else 0
        return models.macs(config["model"], *shape), teacher
    except UserError:  # the size was a guess
        return 1.0, 0.0
