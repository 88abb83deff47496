"""What ``wcordbench run`` shows: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from wcordbench.cli.output import Log
from wcordbench.data.notes import WARNING
from wcordbench.results.store import Store
from wcordbench.suite.plan import first_epochs
from wcordbench.suite.runs import Run

#: what a run is asked to cost: its network's and its teacher's multiply-accumulates an image
Macs = Callable[[Run], tuple[float, float]]

#: seconds without a line, after which one says how far an epoch is, where there is no terminal
LINE_SECONDS = 60.0


class Progress:
    """Takes the events of an executor and shows them.

    Every event is a dictionary with a ``kind``: ``job`` (runs, device, threads, host), ``step``
    (runs, epoch, step, steps, epochs, images_per_second), ``epoch`` (run and its metrics),
    ``resumed`` (run, epoch, step, steps), ``done`` (run, top1), ``failed`` and ``undefined``
    (run, reason), ``busy`` (run), ``lost`` (runs, reason) and ``note`` (line).

    Args:
        runs: every run of the suite, finished ones included.
        store: where they are.
        console: where to show it.
        macs: what runs cost, for the estimate of the time left; all the same without.
    """

    def __init__(
        self,
        runs: list[Run],
        store: Store,
        console: Console | None = None,
        macs: Macs | None = None,
    ) -> None:
        self.runs, self.store = runs, store
        #: what the scores are of
        self.images = "held-out" if any("holdout" in r.config["dataset"] for r in runs) else "test"
        self.console = console or Log(highlight=False)
        states = {r.name: store.folder(r).state for r in runs}
        self.done = sum(s in ("done", "undefined") for s in states.values())
        self.failed: dict[str, str] = {
            r.name: store.folder(r).failure()["reason"] for r in runs if states[r.name] == "failed"
        }
        todo = [r for r in runs if states[r.name] in ("missing", "begun")]
        self.rate = _epoch_costs(todo, macs)
        self.first = {r.name: first_epochs(r) for r in todo}
        self.epochs = {r.name: self.first[r.name] + r.config["train"]["epochs"] for r in todo}
        #: epochs left of each run that is not done, those of a first stage included
        self.left = {name: float(epochs) for name, epochs in self.epochs.items()}
        self.work = self._work_left()
        self.started = self.spoke = time.monotonic()
        self.active: dict[str, dict[str, Any]] = {}
        self.latest: dict[str, dict[str, Any]] = {}
        self.live: Live | None = None
        self.warnings: list[str] = []

    def __enter__(self) -> Progress:
        self.console.print(
            f"{count(len(self.runs), 'run')}: {self.done} done, {len(self.failed)} failed,"
            f" {len(self.left)} to train; results in {self.store.root}",
            soft_wrap=True,
            markup=False,
        )
        if self.console.is_terminal and self.left:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*exc)
            self.live = None

    def note(self, line: str) -> None:
        """A line of log, above the live display if there is one."""
        self.spoke = time.monotonic()
        self.console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True, markup=False)

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        show = getattr(self, f"_on_{event['kind']}", None)
        if show is not None:  # an executor may say more than is shown
            show(event)
        if self.live is not None:
            self.live.update(self._display())

    # --- one method an event --------------------------------------------------------

    def _on_note(self, event: dict[str, Any]) -> None:
        line = event["line"]
        if line.startswith(WARNING):
            if line in self.warnings:  # every job that reads the dataset says it
                return
            self.warnings.append(line)
        self.note(line)

    def _on_job(self, event: dict[str, Any]) -> None:
        runs, host = event["runs"], event.get("host", socket.gethostname())
        where = event["device"] + f" of {host}" * (host != socket.gethostname())
        self.note(
            f"training {count(len(runs), 'run')}{' together' * (len(runs) > 1)} on"
            f" {where} with {count(event['threads'], 'thread')}: {', '.join(runs)}"
        )

    def _on_resumed(self, event: dict[str, Any]) -> None:
        name = event["run"]
        self.note(f"{name}: resumed in {self._where(name, event['epoch'])}")
        # What was done before this process started says nothing about its pace.
        before = self._work_left()
        self._at(name, event["epoch"], event["step"] / event["steps"])
        self.work -= before - self._work_left()

    def _on_step(self, event: dict[str, Any]) -> None:
        for name in event["runs"]:
            self.active[name] = event
            self._at(name, event["epoch"], event["step"] / event["steps"])
        if self.live is None and time.monotonic() - self.spoke >= LINE_SECONDS:
            name, more = event["runs"][0], len(event["runs"]) - 1
            self.note(
                f"{name}{f' and {more} more' * bool(more)}: {self._where(name, event['epoch'])},"
                f" step {event['step']}/{event['steps']},"
                f" {event['images_per_second']:.0f} images/s; {self._eta()}"
            )

    def _on_epoch(self, event: dict[str, Any]) -> None:
        name = event["run"]
        self.latest[name] = event
        self._at(name, event["epoch"] + 1, 0)
        accuracy = f", {self.images} {event['test_top1']:.2f}%" if "test_top1" in event else ""
        self.note(
            f"{name}: {self._where(name, event['epoch'])}, loss {event['train_loss']:.4f},"
            f" train {event['train_top1']:.2f}%{accuracy}, {event['seconds']:.0f} s;"
            f" {self._eta()}"
        )

    def _on_done(self, event: dict[str, Any]) -> None:
        self._over(event["run"])
        self.done += 1
        self.note(f"{event['run']}: done, {event['top1']:.2f}% ({self.done} of {len(self.runs)})")

    def _on_failed(self, event: dict[str, Any]) -> None:
        self._over(event["run"])
        self.failed[event["run"]] = event["reason"]
        self.note(f"{event['run']}: failed, {event['reason']}")

    def _on_undefined(self, event: dict[str, Any]) -> None:
        self._over(event["run"])
        self.done += 1
        self.note(f"{event['run']}: N/A, {event['reason']}")

    def _on_busy(self, event: dict[str, Any]) -> None:
        self.note(f"{event['run']}: another process is training it; waiting for that")

    def _on_memory(self, event: dict[str, Any]) -> None:
        self.note(f"{event['run']}: {event['reason']}; it leaves its cohort and is tried alone")

    def _on_lost(self, event: dict[str, Any]) -> None:
        for name in event["runs"]:
            self._over(name)
            self.failed[name] = event["reason"]
        self.note(f"{', '.join(event['runs'])}: lost, {event['reason']}")

    # --- where everything is --------------------------------------------------------

    def _at(self, name: str, epoch: int, fraction: float) -> None:
        if name in self.left:
            done = epoch + self.first[name] + fraction
            self.left[name] = max(0.0, self.epochs[name] - done)

    def _over(self, name: str) -> None:
        self.left.pop(name, None)
        self.active.pop(name, None)

    def _where(self, name: str, epoch: int) -> str:
        """An epoch as a person counts: from 1, and those of a first stage apart."""
        first = self.first.get(name, 0)
        if epoch < 0:
            return f"epoch {epoch + first + 1}/{first} of the first stage"
        return f"epoch {epoch + 1}/{self.epochs.get(name, 0) - first}"

    def _work_left(self) -> float:
        return sum(epochs * self.rate[name] for name, epochs in self.left.items())

    def _eta(self) -> str:
        """The time left at the pace so far, as ``12 min 30 s left``."""
        left = self._work_left()
        done = self.work - left
        elapsed = time.monotonic() - self.started
        if done <= 0 or elapsed <= 0:
            return "? left"
        minutes, seconds = divmod(round(elapsed * left / done), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        if days:
            return f"{days} d {hours} h left"
        return (
            f"{hours} h {minutes:02d} min left" if hours else f"{minutes} min {seconds:02d} s left"
        )

    def _display(self) -> Group:
        bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[eta]}"),
        )  # fmt: skip
        bars.add_task("runs", total=len(self.runs), completed=self.done, eta=self._eta())
        table = Table(box=None, pad_edge=False)
        for heading in ("training", "epoch", "images/s", "loss", f"{self.images} top-1"):
            table.add_column(heading, justify="left" if heading == "training" else "right")
        for name, event in self.active.items():
            last = self.latest.get(name, {})
            done = event["epoch"] + event["step"] / event["steps"]
            stage = f"{done:.2f}/{event['epochs']}"
            if event["epoch"] < 0:
                first = self.first.get(name, 0)
                stage = f"first {done + first:.2f}/{first}"
            table.add_row(
                name,
                stage,
                f"{event['images_per_second']:.0f}" if name == event["runs"][0] else "",
                f"{last['train_loss']:.3f}" if last else "",
                f"{last['test_top1']:.2f}" if "test_top1" in last else "",
            )
        return Group(bars, table)

    def summary(self) -> list[str]:
        """Say what failed; returns the names."""
        for name, reason in self.failed.items():
            lines = reason.strip().splitlines()
            self.note(f"failed: {name}: {lines[-1] if lines else 'for no known reason'}")
        if self.failed:
            self.note("run again with --retry-failed to train the failed runs again")
        elif self.done < len(self.runs):
            self.note(f"{self.done} of {count(len(self.runs), 'run')} done")
        else:
            self.note(f"all {count(len(self.runs), 'run')} done")
        for line in self.warnings:  # hours of lines may lie between
            self.note(line)
        return list(self.failed)


def _epoch_costs(runs: list[Run], macs: Macs | None) -> dict[str, float]:
    """Relative cost of an epoch: three passes of the student, and a share of the teacher's.

    Backward passes cost two forward ones; a teacher's pass is shared by its cohort.
    """
    if macs is None:
        return {r.name: 1.0 for r in runs}
    shared = Counter((r.teacher, r.checkpoint, r.config["seed"]) for r in runs)
    costs = {}
    for r in runs:
        student, teacher = macs(r)
        costs[r.name] = 3 * student + teacher / shared[r.teacher, r.checkpoint, r.config["seed"]]
    return costs


def count(number: int, what: str) -> str:
    """A number of things as words: ``1 run``, ``3 runs``."""
    return f"{number} {what}{'s' * (number != 1)}"
