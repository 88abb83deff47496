"""``wcordbench status``: how far a suite is."""

from __future__ import annotations

import dataclasses
import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcordbench.cli.options import (
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    SuitePath,
    existing,
    select,
)
from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.results.status import Status


def command(
    suite: SuitePath,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    results: Results = Path("results"),
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    watch: Annotated[
        float | None,
        typer.Option(min=0.2, help="Show it again every so many seconds, until all is done."),
    ] = None,
) -> None:
    """Say what is done, what is running and where, what failed, and the time left.

    Exit code 0; 1 with runs that failed.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from wcordbench.results.status import status
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    if form not in ("text", "json"):
        raise UserError(f"--format {form!r} is unknown; valid: text, json")
    loaded = load_suite(suite, set_ or [])
    runs = [c.run for c in select(loaded, pair, method, seed)]
    if results.exists():  # before the first run there is none
        existing(results)
    again = _command(suite, set_, pair, method, seed, results)
    found = status(runs, Store(results))
    if form == "json":
        typer.echo(json.dumps(dataclasses.asdict(found), indent=1))
    elif watch is None:
        typer.echo(describe(loaded.name, found, again))
    else:
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            while True:
                live.update(Text(describe(loaded.name, found, again)), refresh=True)
                if not (found.running or found.begun or found.missing):
                    break
                time.sleep(watch)
                found = status(runs, Store(results))
    if found.failed:
        raise typer.Exit(1)


def _command(
    suite: Path,
    set_: list[str] | None,
    pair: list[str] | None,
    method: list[str] | None,
    seed: list[int] | None,
    results: Path,
) -> str:
    """``wcordbench run`` of the very runs that are shown."""
    words = ["wcordbench", "run", str(suite)]
    given: list[tuple[str, list[str] | list[int] | None]] = [
        ("--set", set_), ("--pair", pair), ("--method", method), ("--seed", seed),
    ]  # fmt: skip
    for flag, values in given:
        for value in values or []:
            words += [flag, str(value)]
    if results != Path("results"):
        words += ["--results", str(results)]
    return shlex.join(words)


def describe(name: str, found: Status, again: str) -> str:
    """A status in lines; ``again`` is the command that trains what is left."""
    waiting = len(found.begun) + len(found.missing)
    counts = [
        f"{found.done} done",
        f"{found.undefined} N/A" * bool(found.undefined),
        f"{len(found.running)} running",
        f"{len(found.failed)} failed",
        f"{waiting} waiting" + f" ({len(found.begun)} begun)" * bool(found.begun),
    ]
    lines = [f"{name}: {found.total} runs: {', '.join(c for c in counts if c)}"]
    for progress in found.running:
        holder = progress.holder
        who = f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "a process"
        who += f" ({holder['device']})" if "device" in holder else ""
        left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
        lines.append(
            f"  {progress.run}: epoch {progress.epoch} of {progress.epochs} done, by {who}{left}"
        )
    lines += [
        f"  {run}: failed, {(reason.splitlines() or ['for no known reason'])[0]}"
        for run, reason in found.failed.items()
    ]
    if found.failed:
        lines.append(f"train the failed runs again with: {again} --retry-failed")
    if found.running or waiting:
        if found.seconds_left is None:
            lines.append("time left: not known before the first epochs are over")
        else:
            alone = "" if found.running else " with one worker; nothing is being trained"
            lines.append(f"time left: about {duration(found.seconds_left)}{alone}")
    if waiting and not found.running:
        lines.append(f"train what is left with: {again}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``12 s``, ``3 min``, ``2 h 05 min``, ``4 d 3 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
