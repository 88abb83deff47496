"""One HTML page of a suite's results that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from wcordbench.errors import UserError
from wcordbench.reporting import plot
from wcordbench.reporting.compare import against, baseline_of, judged, not_judged, rule
from wcordbench.reporting.parts import cell_text, printed, remarks_of
from wcordbench.reporting.plot_correlation import correlation_maps
from wcordbench.reporting.plot_curves import curves
from wcordbench.reporting.plot_sweep import sweep_plot
from wcordbench.reporting.plot_table import dot_plot
from wcordbench.reporting.render_compare import grids
from wcordbench.reporting.table import Entry, Table, build
from wcordbench.results.statistics import CONFIDENCE
from wcordbench.results.store import Store
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import Suite

_STATES = {"done": "done", "undefined": "N/A", "failed": "failed", "begun": "begun",
           "missing": "still to be trained"}  # fmt: skip
_SCORES = {"top1": "test top-1", "top5": "test top-5", "auc": "test AUC"}
#: What a picture shows, for those who do not see it: its numbers are in the page's tables.
_ALT = {
    "Every seed and mean": "Dots: seeds; bars: means with their 95% intervals; hollow marks:"
    " published values, where they are comparable. The numbers are in the table of results.",
    "Learning curves": "The score after every epoch, by method; bands reach from the lowest"
    " to the highest seed. The numbers are in the details of the runs.",
    "Sweep": "The score against the swept parameter with its deviation as a band, the published"
    " curve hollow. The numbers are in the table of results.",
    "Class correlations": "How far each pair of classes correlates otherwise in the student's"
    " logits than in the teacher's; dark is alike.",
}


def score_name(suite: Suite) -> str:
    """What a suite's score is called, with the images that it is of."""
    name = _SCORES[suite.metric]
    return name.replace("test", "held-out") if suite.dataset.holdout else name


def page(
    suite: Suite,
    cells: list[Cell],
    store: Store,
    path: str,
    maps: Mapping[str, Mapping[str, NDArray[np.float64]]] | None = None,
) -> str:
    """The page, as HTML.

    Args:
        suite: the suite.
        cells: its cells, or those to show.
        store: where the runs are.
        path: of the suite's file, to name the command.
        maps: differences of class correlations to draw, by pair and method (see
            :func:`wcordbench.training.correlations.correlation_differences`).

    Raises:
        UserError: a result is damaged.
    """
    table, reason = _compared(suite, build(suite, cells, store, None))
    runs = [_run(cell, store, suite.metric) for cell in cells]
    counts = Counter(run["state"] for run in runs)
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    columns = range(len(table.students))
    return environment.from_string(_file("report.html")).render(
        table=table,
        remarks=remarks_of(table),
        pairs=[
            (
                *(printed(of[c]) for of in (table.teachers, table.students)),
                table.labels[c] if table.labels else "",
            )
            for c in columns
        ],
        counts=", ".join(f"{number} {state}" for state, number in counts.items()),
        path=path,
        value=_value,
        cell=cell_text,
        sortable=_sortable,
        comparisons=[grid for c in columns for grid in grids(table, c, CONFIDENCE)],
        not_judged=reason or rule(),
        pictures=_pictures(suite, cells, store, maps or {}),
        made=_made(runs),
        suite=json.dumps(
            suite.model_dump(mode="json", exclude_unset=True), indent=1, ensure_ascii=False
        ),
        runs=runs,
        lacking=[run for run in runs if run["reason"]],
        score=score_name(suite),
        script=Markup(script),
        script_sha256=digest,
    )


def _file(name: str) -> str:
    folder = importlib.resources.files("wcordbench.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _compared(suite: Suite, table: Table) -> tuple[Table, str | None]:
    """The table with what it can be compared with, and why it is not judged."""
    try:
        baseline = baseline_of(suite)
    except UserError:  # neither CRD nor the plain student
        baseline = ""
    if baseline in dict(table.rows):
        table = against(table, baseline)
    reason = not_judged(suite)
    return (table if reason else judged(table)), reason


def _value(entry: Entry) -> str:
    """What a cell is sorted by; nothing sorts last."""
    mean = entry.summary.mean if entry.summary else None
    return "" if mean is None else str(mean)


def _sortable(text: Any) -> str | None:
    """The number that a comparison's cell begins with; None for words and gaps."""
    found = re.match(r"[<+−]?([\d.]+)", str(text))
    return None if found is None else "-" * str(text).startswith("−") + found[1]


def _run(cell: Cell, store: Store, metric: str) -> dict[str, Any]:
    folder = store.folder(cell.run)
    state = folder.state
    record = folder.result() if state == "done" else {}
    metrics = folder.read_json("metrics.json") if (folder.path / "metrics.json").is_file() else []
    environment = record.get("environment", {})
    provenance = [(k.replace("_", " "), v) for k, v in environment.items() if v is not None]
    earlier = record.get("earlier_environments", [])
    for before in earlier:
        other = [f"{k.replace('_', ' ')} {v}" for k, v in before.items() if v != environment.get(k)]
        provenance.append(("before an interruption", ", ".join(other)))
    for key in ("id", "weights_sha256", "teacher_sha256", "dataset_fingerprint", "seconds"):
        if record.get(key) is not None:
            provenance.append((key.replace("_", " "), record[key]))
    reached = record.get("teacher_scores", {})  # of a teacher that was given as a file
    provenance += [(f"teacher {name}", f"{value:.2f}") for name, value in reached.items()]
    score = record.get("scores", {}).get(metric)
    return {
        "row": "Teacher" if cell.method is None else cell.method.title,
        "pair": cell.pair.shown,
        "seed": cell.seed,
        "name": cell.run.name,
        "state": _STATES[state],
        "score": "" if score is None else f"{score:.2f}",
        "reason": folder.failure()["reason"] if state in ("failed", "undefined") else "",
        "epochs": [_epoch(m, f"test_{metric}") for m in metrics],
        "curve": _curve([m[f"test_{metric}"] for m in metrics if f"test_{metric}" in m]),
        "provenance": provenance,
        "environment": environment,
        "earlier": earlier,
        "config": json.dumps(cell.run.config, indent=1, ensure_ascii=False),
    }


def _epoch(metrics: dict[str, Any], score: str) -> list[str]:
    return [
        str(metrics["epoch"] + 1),
        f"{metrics['learning_rate']:.4g}",
        f"{metrics['train_loss']:.4f}",
        f"{metrics['train_top1']:.2f}",
        f"{metrics[score]:.2f}" if score in metrics else "",
        f"{metrics['seconds']:.1f}",
    ]


def _curve(scores: list[float]) -> dict[str, str] | None:
    """A run's curve as the points of a line in a box of 300 by 80, and in words."""
    if len(scores) < 2:
        return None
    low, span = min(scores), max(scores) - min(scores) or 1
    step = 292 / (len(scores) - 1)
    points = [f"{4 + i * step:.1f},{76 - 72 * (s - low) / span:.1f}" for i, s in enumerate(scores)]
    words = f"from {scores[0]:.2f} after the first epoch to {scores[-1]:.2f} after the last"
    return {"points": " ".join(points), "words": words}


def _made(runs: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The machines, versions and commits of the finished runs, each once."""
    keys = {
        "device_name": "Processor or device", "instructions": "Instructions",
        "threads": "Threads", "system": "System",
        "wcordbench": "wcordbench", "python": "Python", "torch": "torch",
        "torchvision": "torchvision", "commit": "Commits",
    }  # fmt: skip
    made = []
    for key, title in keys.items():
        environments = [e for r in runs for e in (r["environment"], *r["earlier"])]
        values = {str(e[key]) for e in environments if e.get(key) is not None}
        if values:
            made.append((title, ", ".join(sorted(values))))
    return made


def _pictures(
    suite: Suite,
    cells: list[Cell],
    store: Store,
    maps: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> list[dict[str, Any]]:
    """The plots of every pair as SVG; what has nothing to show, or no matplotlib, is left out."""
    pictures: list[dict[str, Any]] = []
    for pair in suite.pairs:
        own = [cell for cell in cells if cell.pair == pair]
        table = build(suite, own, store, None)
        draw: dict[str, Callable[[io.BytesIO], None]] = {
            "Every seed and mean": partial(dot_plot, table),
            "Learning curves": partial(curves, suite, own, store),
            "Sweep": partial(sweep_plot, suite, table),
        }
        if pair.name in maps:
            draw["Class correlations"] = partial(correlation_maps, {pair.name: maps[pair.name]})
        for title, into in draw.items():
            out = io.BytesIO()
            try:
                into(out)
            except UserError:
                continue
            pictures.append(
                {
                    "title": f"{title}: {plot.heading(pair)}",
                    "text": _ALT[title],
                    "svg": _embedded(out.getvalue().decode(), len(pictures)),
                }
            )
    return pictures


def _embedded(svg: str, number: int) -> Markup:
    """An SVG file as a part of the page: one page, several pictures, each with its own names."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)

    def own(tag: re.Match[str]) -> str:  # a label that looks like a name is left alone
        return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>p{number}-", tag[0])

    return Markup(re.sub(r"<[^>]*>", own, svg))


__all__ = ["page"]
