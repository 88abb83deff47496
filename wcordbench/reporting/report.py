"""One HTML page of a suite's results that needs nothing else: no network, no other file."""

from __future__ import annotations

import importlib.resources
import io
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import jinja2
from markupsafe import Markup

from wcordbench.errors import UserError
from wcordbench.reporting.plot_curves import curves
from wcordbench.reporting.plot_table import dot_plot
from wcordbench.reporting.render import cell_text, printed
from wcordbench.reporting.table import Entry, Table
from wcordbench.results.store import Store
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import Suite

_STATES = {"done": "done", "undefined": "N/A", "failed": "failed", "begun": "begun",
           "missing": "still to be trained"}  # fmt: skip


def page(suite: Suite, table: Table, cells: list[Cell], store: Store, path: str) -> str:
    """The page, as HTML.

    Args:
        suite: the suite.
        table: as :func:`wcordbench.reporting.table.build` laid it out.
        cells: the table's.
        store: where the runs are.
        path: of the suite's file, to name the command.

    Raises:
        UserError: a result is damaged.
    """
    runs = [_run(cell, store) for cell in cells]
    done = sum(run["state"] == "done" for run in runs)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = importlib.resources.files("wcordbench.reporting") / "templates" / "report.html"
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        table=table,
        pairs=[
            (printed(t), printed(s)) for t, s in zip(table.teachers, table.students, strict=True)
        ],
        counts=f"{done} of {len(runs)} runs of the table are done.",
        path=path,
        value=_value,
        cell=cell_text,
        pictures=_pictures(suite, table, cells, store),
        made=_made(runs),
        suite=json.dumps(
            suite.model_dump(mode="json", exclude_unset=True), indent=1, ensure_ascii=False
        ),
        runs=runs,
    )


def _value(entry: Entry) -> str:
    """What a cell is sorted by; nothing sorts last."""
    mean = entry.summary.mean if entry.summary else None
    return "" if mean is None else str(mean)


def _run(cell: Cell, store: Store) -> dict[str, Any]:
    folder = store.folder(cell.run)
    state = folder.state
    record = folder.result() if state == "done" else {}
    metrics = folder.read_json("metrics.json") if (folder.path / "metrics.json").is_file() else []
    environment = record.get("environment", {})
    provenance = [(k.replace("_", " "), v) for k, v in environment.items() if v is not None]
    for key in ("id", "weights_sha256", "teacher_sha256", "dataset_fingerprint", "seconds"):
        if record.get(key) is not None:
            provenance.append((key.replace("_", " "), record[key]))
    return {
        "row": "Teacher" if cell.method is None else cell.method.title,
        "pair": cell.pair.name.replace("->", " → "),
        "seed": cell.seed,
        "name": cell.run.name,
        "state": _STATES[state],
        "reason": folder.failure()["reason"] if state in ("failed", "undefined") else "",
        "epochs": [_epoch(m) for m in metrics],
        "provenance": provenance,
        "environment": environment,
        "config": json.dumps(cell.run.config, indent=1, ensure_ascii=False),
    }


def _epoch(metrics: dict[str, Any]) -> list[str]:
    return [
        str(metrics["epoch"] + 1),
        f"{metrics['learning_rate']:.4g}",
        f"{metrics['train_loss']:.4f}",
        f"{metrics['train_top1']:.2f}",
        f"{metrics['test_top1']:.2f}" if "test_top1" in metrics else "",
        f"{metrics['seconds']:.1f}",
    ]


def _made(runs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The machines, versions and commits of the finished runs, each once."""
    keys = {
        "device_name": "Processor or device", "threads": "Threads", "system": "System",
        "wcordbench": "wcordbench", "python": "Python", "torch": "torch",
        "torchvision": "torchvision", "commit": "Commits",
    }  # fmt: skip
    made = []
    for key, title in keys.items():
        values = {str(r["environment"][key]) for r in runs if r["environment"].get(key) is not None}
        if values:
            made.append((title, ", ".join(sorted(values))))
    return made


def _pictures(
    suite: Suite, table: Table, cells: Iterable[Cell], store: Store
) -> list[dict[str, Any]]:
    """The plots as SVG; those that have nothing to show, or no matplotlib, are left out."""
    draw: dict[str, Callable[[io.BytesIO], None]] = {
        "Every seed a dot, every mean with its standard deviation; dashed: the teacher.": (
            lambda out: dot_plot(table, out)
        ),
        "Test accuracy after every epoch, by method.": (
            lambda out: curves(suite, cells, store, out)
        ),
    }
    pictures = []
    for number, (text, into) in enumerate(draw.items()):
        out = io.BytesIO()
        try:
            into(out)
        except UserError:
            continue
        svg = out.getvalue().decode()
        svg = svg[svg.index("<svg") :]
        # One page, several pictures: each keeps its own names.
        svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>p{number}-", svg)
        pictures.append({"text": text, "svg": Markup(svg)})
    return pictures


__all__ = ["page"]
