"""What ``wcordbench run`` shows: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from wcordbench.results.store import Store
from wcordbench.suite.runs import Run


class Progress:
    """Takes the events of an executor and shows them.

    Args:
        runs: every run of the suite, finished ones included.
        store: where they are.
    """

    def __init__(self, runs: list[Run], store: Store, console: Console | None = None) -> None:
        self.runs, self.store = runs, store
        self.console = console or Console(highlight=False)
        states = [store.folder(r).state for r in runs]
        self.done = sum(s in ("done", "undefined") for s in states)
        self.failed: dict[str, str] = {}
        for run, state in zip(runs, states, strict=True):
            if state == "failed":
                self.failed[run.name] = store.folder(run).read_json("failure.json")["reason"]
        self.work = {r.name: float(r.config["train"]["epochs"]) for r in runs}
        self.left = {
            r.name: self.work[r.name]
            for r, s in zip(runs, states, strict=True)
            if s in ("missing", "begun")
        }
        self.total_left = sum(self.left.values())
        self.started = time.monotonic()
        self.active: dict[str, dict[str, Any]] = {}
        self.latest: dict[str, dict[str, Any]] = {}
        self.live: Live | None = None

    def __enter__(self) -> Progress:
        self.console.print(
            f"{len(self.runs)} runs: {self.done} done, {len(self.failed)} failed,"
            f" {len(self.left)} to train; results in {self.store.root}"
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
        self.console.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True, markup=False)

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        getattr(self, f"_on_{event['kind']}")(event)
        if self.live is not None:
            self.live.update(self._display())

    def _on_job(self, event: dict[str, Any]) -> None:
        runs = event["runs"]
        self.note(
            f"training {len(runs)} run{'s' * (len(runs) > 1)} together on {event['device']}"
            f" with {event['threads']} thread{'s' * (event['threads'] > 1)}:"
            f" {', '.join(runs)}"
        )

    def _on_step(self, event: dict[str, Any]) -> None:
        self.active[event["runs"][0]] = event
        for name in event["runs"]:
            done = event["epoch"] + event["step"] / event["steps"]
            self.left[name] = self.work[name] - max(0.0, done)

    def _on_epoch(self, event: dict[str, Any]) -> None:
        name = event["run"]
        self.latest[name] = event
        self.left[name] = self.work[name] - max(0, event["epoch"] + 1)
        accuracy = f", test {event['test_top1']:.2f}%" if "test_top1" in event else ""
        self.note(
            f"{name}: epoch {event['epoch'] + 1}/{event['epochs']},"
            f" loss {event['train_loss']:.4f}, train {event['train_top1']:.2f}%{accuracy},"
            f" {event['seconds']:.0f} s; {self._eta()} left"
        )

    def _on_done(self, event: dict[str, Any]) -> None:
        self.done += 1
        self.left.pop(event["run"], None)
        self.active.pop(event["run"], None)
        self.note(f"{event['run']}: done, {event['top1']:.2f}% ({self.done} of {len(self.runs)})")

    def _on_failed(self, event: dict[str, Any]) -> None:
        self.failed[event["run"]] = event["reason"]
        self.left.pop(event["run"], None)
        self.active.pop(event["run"], None)
        self.note(f"{event['run']}: failed, {event['reason']}")

    def _on_undefined(self, event: dict[str, Any]) -> None:
        self.done += 1
        self.left.pop(event["run"], None)
        self.note(f"{event['run']}: N/A, {event['reason']}")

    def _on_resumed(self, event: dict[str, Any]) -> None:
        self.note(f"{event['run']}: resumed in epoch {event['epoch'] + 1}")

    def _on_busy(self, event: dict[str, Any]) -> None:
        self.left.pop(event["run"], None)
        self.note(f"{event['run']}: left to the process that is training it")

    def _on_lost(self, event: dict[str, Any]) -> None:
        for name in event["runs"]:
            if name in self.left:
                self.failed[name] = event["reason"]
        self.note(f"{', '.join(event['runs'])}: lost, {event['reason']}")

    def _eta(self) -> str:
        left = sum(self.left.values())
        done = self.total_left - left
        if done <= 0:
            return "?"
        seconds = (time.monotonic() - self.started) * left / done
        hours, minutes = divmod(int(seconds) // 60, 60)
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {int(seconds) % 60} s"

    def _display(self) -> Group:
        bars = Bars(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[eta]}"),
        )  # fmt: skip
        bars.add_task("runs", total=len(self.runs), completed=self.done, eta=f"{self._eta()} left")
        table = Table(box=None, pad_edge=False)
        for heading in ("training", "epoch", "images/s", "loss", "test top-1"):
            table.add_column(heading, justify="left" if heading == "training" else "right")
        for event in self.active.values():
            for i, name in enumerate(event["runs"]):
                last = self.latest.get(name, {})
                table.add_row(
                    name,
                    f"{event['epoch'] + event['step'] / event['steps']:.2f}/{event['epochs']}",
                    f"{event['images_per_second']:.0f}" if i == 0 else "",
                    f"{last['train_loss']:.3f}" if last else "",
                    f"{last['test_top1']:.2f}" if "test_top1" in last else "",
                )
        return Group(bars, table)

    def summary(self) -> list[str]:
        """Say what failed; returns the names."""
        for name, reason in self.failed.items():
            self.note(f"failed: {name}: {reason.strip().splitlines()[-1]}")
        if self.failed:
            self.note("run again with --retry-failed to train the failed runs again")
        else:
            self.note(f"all {len(self.runs)} runs are done")
        return list(self.failed)
