"""How far a suite is: what is done, who trains what, what failed, how long the rest takes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.plan import epochs
from wcordbench.suite.runs import Run


@dataclass(frozen=True)
class Progress:
    """One run that is being trained.

    Attributes:
        run: its name.
        epoch, epochs: epochs finished and wanted, those of a first stage included.
        holder: host, process, device and since when, as far as they are known.
        seconds_left: at the pace of its last epoch; None before the first is over.
    """

    run: str
    epoch: int
    epochs: int
    holder: dict[str, Any]
    seconds_left: float | None


@dataclass(frozen=True)
class Status:
    """A suite's runs by state.

    Attributes:
        total: all runs, teachers included.
        done, undefined: finished, and "N/A".
        running: being trained at this moment, by any process on any machine.
        failed: names and reasons.
        begun, missing: names of runs that wait, with and without a checkpoint.
        seconds_left: wall-clock estimate at the present number of workers (one where
            nothing is trained): what is running at its pace,
            the rest at the mean cost of finished runs of the
            same network, teacher and method, else of all. None while nothing is known.
    """

    total: int
    done: int
    undefined: int
    running: list[Progress]
    failed: dict[str, str]
    begun: list[str]
    missing: list[str]
    seconds_left: float | None


def status(runs: Iterable[Run], store: Store) -> Status:
    """Look at every run's folder.

    Raises:
        UserError: a record is damaged.
    """
    runs = list(dict.fromkeys(runs))
    states: dict[str, list[Run]] = {}
    running: list[Progress] = []
    costs: list[tuple[Run, float]] = []
    for run in runs:
        folder = store.folder(run)
        state = folder.state
        if state in ("begun", "missing"):
            holder = folder.holder() if folder.path.is_dir() else None
            if holder is not None:
                running.append(_progress(run, folder, holder))
                continue
        elif state == "done":
            record = folder.result()
            if "seconds" in record:  # of the cohort, which its runs share
                costs.append((run, record["seconds"] / record.get("cohort", 1) / epochs(run)))
        states.setdefault(state, []).append(run)
    waiting = [*states.get("begun", []), *states.get("missing", [])]
    return Status(
        total=len(runs),
        done=len(states.get("done", [])),
        undefined=len(states.get("undefined", [])),
        running=running,
        failed={r.name: store.folder(r).failure()["reason"] for r in states.get("failed", [])},
        begun=[r.name for r in states.get("begun", [])],
        missing=[r.name for r in states.get("missing", [])],
        seconds_left=_left(running, waiting, costs),
    )


def _progress(run: Run, folder: RunFolder, holder: dict[str, Any]) -> Progress:
    try:
        metrics = folder.read_json("metrics.json")
        done, pace = len(metrics), float(metrics[-1]["seconds"])
    except (UserError, IndexError, KeyError, TypeError):  # nothing is over yet
        return Progress(run.name, 0, epochs(run), holder, None)
    return Progress(run.name, done, epochs(run), holder, pace * (epochs(run) - done))


def _left(
    running: list[Progress], waiting: list[Run], costs: list[tuple[Run, float]]
) -> float | None:
    """See :class:`Status`; ``costs``: finished runs and the seconds of an epoch of each."""
    if not running and not waiting:
        return 0.0
    paces = [p.seconds_left for p in running]
    if any(p is None for p in paces) or (waiting and not costs):
        return None
    workers = len({(p.holder.get("host"), p.holder.get("pid")) for p in running}) or 1
    now = max((p for p in paces if p is not None), default=0.0)
    seen: dict[str, list[float]] = {}
    for run, seconds in costs:
        seen.setdefault(_kind(run), []).append(seconds)
    usual = statistics.fmean(seconds for _, seconds in costs) if costs else 0.0
    means = {kind: statistics.fmean(times) for kind, times in seen.items()}
    rest = sum(epochs(run) * means.get(_kind(run), usual) for run in waiting)
    return now + rest / workers


def _kind(run: Run) -> str:
    """Equal for runs of which an epoch costs the same: all but the seed and rates."""
    teacher = run.config["teacher"] or {}
    method = run.config["method"]
    return json.dumps(
        [run.config["dataset"], run.config["model"], teacher.get("model"), method], sort_keys=True
    )


__all__ = ["Progress", "Status", "status"]
