"""``wcordbench plan``: what a suite will take, before it runs."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcordbench.cli.options import (
    CohortSize,
    Data,
    Device,
    MethodOption,
    PairOption,
    PerGpu,
    Results,
    SeedOption,
    Set,
    SuitePath,
    Threads,
    Workers,
    select,
    write_out,
)
from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.results.store import Store
    from wcordbench.suite import Run


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    data: Data = Path("data"),
    device: Device = None,
    workers: Workers = None,
    threads: Threads = None,
    per_gpu: PerGpu = None,
    cohort_size: CohortSize = None,
    steps: Annotated[
        int,
        typer.Option(min=0, help="Steps timed of each network and method; 0 for no times."),
    ] = 2,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    save: Annotated[
        Path | None,
        typer.Option(help="Keep what was measured here, for wcordbench run --costs."),
    ] = None,
) -> None:
    """Say what is left to train, and the time and disk it takes on this machine.

    Takes a few real steps of every network and method first: some minutes for a large suite.
    Nothing is downloaded, and no results are written.
    """
    from rich.console import Console

    from wcordbench.executors.local import LocalExecutor
    from wcordbench.results.store import Store, to_json
    from wcordbench.suite import load_suite
    from wcordbench.suite.forecast import forecast, remaining
    from wcordbench.suite.plan import cohorts
    from wcordbench.suite.schedule import arrange

    if form not in ("text", "json"):
        raise UserError(f"--format {form!r} is unknown; valid: text, json")
    if save is not None and not steps:
        raise UserError("--save keeps times, and --steps 0 measures none; leave one of them out")
    if save is not None and not save.absolute().parent.is_dir():  # not after minutes of measuring
        raise UserError(f"--save {save}: there is no such folder; make it, or give another file")
    loaded = load_suite(suite, set_ or [])
    cells = select(loaded, pair, method, seed, unfetched=True)
    store = Store(results)
    runs = list(dict.fromkeys(cell.run for cell in cells))
    states = {run: store.folder(run).state for run in runs}

    from wcordbench.suite.check import check_shapes  # imports torch
    from wcordbench.training.calibrate import calibrate

    reasons = {(u.pair.name, u.method.title) for u in check_shapes(loaded)}
    for cell in cells:
        if cell.method is not None and (cell.pair.name, cell.method.title) in reasons:
            states[cell.run] = "undefined"
    left = [run for run in runs if states[run] not in ("done", "undefined")]
    place = LocalExecutor(results, data, device, workers, threads, per_gpu=per_gpu)
    if steps and left:  # as run does
        place = place.packed(cohorts(left), lambda event: typer.echo(event["line"], err=True))
    devices, slots, each = place.layout(len(left))
    with Console(stderr=True).status("calibrating") as status:
        measured = calibrate(left, data, devices, slots, each, steps, status.update)
    if save is not None and left:  # else nothing was measured
        write_out(save, to_json(dataclasses.asdict(measured)), "--save")
    done = {run: _done(run, store) if states[run] == "begun" else 0.0 for run in left}
    jobs = cohorts(left, lambda run: remaining(measured.cost(run), done[run]), cohort_size)
    found = forecast(
        cells,
        arrange(jobs, slots),
        slots,
        measured.sizes,
    )
    counts: dict[str, int] = {
        "total": len(runs),
        "teachers": len({cell.run for cell in cells if cell.is_teacher}),
        **Counter(states.values()),
        "left": len(left),
        "cohorts": len(jobs),
    }
    record: dict[str, Any] = {
        "suite": loaded.name,
        "runs": counts,
        "devices": devices,
        "threads": each,
        "calibration": {
            "steps": steps,
            "seconds": measured.seconds,
            "real_images": measured.real_images,
            "dataset_bytes": measured.dataset_bytes,
            "memory": measured.memory,
        },
        **dataclasses.asdict(found),
    }
    typer.echo(json.dumps(record, indent=1) if form == "json" else describe(record))


def _done(run: Run, store: Store) -> float:
    """The fraction of a run that its checkpoint holds."""
    from wcordbench.suite.plan import epochs

    try:
        return min(1.0, len(store.folder(run).read_json("metrics.json")) / epochs(run))
    except (UserError, TypeError):  # stopped before its first epoch was over
        return 0.0


def describe(record: dict[str, Any]) -> str:
    """A plan in lines."""
    from tabulate import tabulate

    from wcordbench.cli.progress import count
    from wcordbench.cli.status import duration

    runs, disk, calibration = record["runs"], record["disk"], record["calibration"]
    states = [
        f"{runs[state]} {word}"
        for state, word in (
            ("done", "done"), ("undefined", "N/A"), ("failed", "failed"), ("begun", "begun")
        )
        if runs.get(state)
    ]  # fmt: skip
    lines = [
        f"{record['suite']}: "
        + ", ".join([count(runs["total"], "run"), *states])
        + f"; {runs['left']} to train, {count(runs['teachers'], 'teacher')} among all"
    ]
    if not runs["left"]:
        return "\n".join([*lines, "nothing is left to do"])
    where = ", ".join(record["devices"])
    lines += [
        f"cohorts: {runs['cohorts']}, in {count(record['jobs'], 'job')} over"
        f" {count(record['workers'], 'worker')} on {where},"
        f" {count(record['threads'], 'thread')} each",
        f"disk: {_bytes(disk['weights'])} of weights, {_bytes(disk['records'])} of records,"
        f" at most {_bytes(disk['checkpoints'])} of checkpoints while training;"
        f" the decoded images are {_bytes(calibration['dataset_bytes'])}",
    ]
    if not calibration["steps"]:
        return "\n".join([*lines, "time: not measured (--steps 0)"])
    lines.append(
        f"time: about {duration(record['seconds'])} with"
        f" {count(record['workers'], 'worker')} ({duration(record['work'])} of one worker),"
        f" from {calibration['steps']} steps of each part in"
        f" {duration(calibration['seconds'])}"
    )
    if calibration["memory"]:
        whose = "the GPU's" if record["devices"][0].startswith("cuda") else "its images included"
        lines.append(f"memory: {_bytes(calibration['memory'])} of a worker at most, {whose}")
    if not calibration["real_images"]:
        lines.append("the dataset is not there: random images of its shape were used")
    for title, key in (("row", "rows"), ("pair", "pairs")):
        table = [
            [name, p["runs"], duration(p["seconds"]), f"{p['seconds'] / record['work']:.1%}"]
            for name, p in record[key].items()
        ]
        headers = [title, "runs", "one worker's time", "share"]
        lines += ["", tabulate(table, headers, colalign=("left", "right", "right", "right"))]
    return "\n".join(lines)


def _bytes(count: float) -> str:
    """A size as a person says it: ``12 MB``, ``3.4 GB``."""
    unit = "kB" if count < 999_500 else "MB" if count < 999_500_000 else "GB"
    number = count / {"kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
