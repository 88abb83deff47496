"""``wcordbench best``: finished runs, the highest score first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from wcordbench.cli.options import (
    MethodOption,
    PairOption,
    Results,
    SeedOption,
    Set,
    existing,
    select,
)
from wcordbench.errors import UserError


def command(
    suite: Annotated[
        Path | None,
        typer.Argument(
            help="Only this suite's runs (its file, or a shipped one's name); all by default.",
            show_default=False,
        ),
    ] = None,
    set_: Set = None,
    pair: PairOption = None,
    method: MethodOption = None,
    seed: SeedOption = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="top1, top5 or auc; by default the suite's metric, or top1.", show_default=False
        ),
    ] = None,
    teachers: Annotated[bool, typer.Option("--teachers", help="List teachers as well.")] = False,
    top: Annotated[int, typer.Option(min=0, help="How many; 0 for all.")] = 10,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    results: Results = Path("results"),
) -> None:
    """List finished runs by their score after the last epoch, and on which images where not test.

    The highest of many seeds says little: wcordbench table and compare are for claims.
    """
    from wcordbench.results.store import Store
    from wcordbench.suite import load_suite

    if form not in ("text", "json"):
        raise UserError(f"--format {form!r} is unknown; valid: text, json")
    if score not in (None, "top1", "top5", "auc"):
        raise UserError(f"--score {score!r} is unknown; valid: top1, top5, auc")
    store = Store(existing(results))
    if suite is not None:
        loaded = load_suite(suite, set_ or [])
        score = score or loaded.metric
        cells = select(loaded, pair, method, seed)
        titles: dict[str, list[str]] = {}
        for cell in cells:
            if cell.method is not None:
                titles.setdefault(cell.run.name, []).append(cell.method.title)
            elif teachers:
                titles.setdefault(cell.run.name, []).append("Teacher")
        folders = [f for f in store.folders() if f.path.name in titles]
        rows = [_row(f, titles[f.path.name][0], score) for f in folders]
    else:
        if set_:
            raise UserError("--set changes a suite; name the suite as well")
        score = score or "top1"
        rows = [_row(f, None, score) for f in store.folders()]
        rows = [r for r in rows if r is None or _wanted(r, pair, method, seed)]
    found = sorted((r for r in rows if r is not None), key=lambda r: (-r["score"], r["run"]))
    if not found:
        of = "" if suite is None else f" of {suite}"
        raise UserError(f"no finished run{of} in {results} has a {score} and fits the selection")
    shown = found[:top] if top else found
    typer.echo(json.dumps(shown, indent=1) if form == "json" else _text(shown, len(found), score))


def _row(folder: Any, title: str | None, score: str) -> dict[str, Any] | None:
    """A finished run as a row; None where it is not finished, or has no such score."""
    from wcordbench.results.scored import scored_on

    if folder.state != "done":
        return None
    record = folder.result(best=False)
    config = record["config"]
    if score not in record["scores"]:
        return None
    teacher = config["teacher"]["model"] if config["teacher"] else None
    return {
        "run": folder.path.name,
        "score": record["scores"][score],
        "dataset": config["dataset"]["name"],
        "images": scored_on(config),
        "method": title or config["method"]["name"],
        "teacher": teacher,
        "student": config["model"],
        "seed": config["seed"],
        "epochs": config["train"]["epochs"],
        "weights": (folder.path / "student.pt").is_file(),
    }


def _wanted(
    row: dict[str, Any],
    pairs: list[str] | None,
    methods: list[str] | None,
    seeds: list[int] | None,
) -> bool:
    pair = f"{row['teacher']}->{row['student']}"
    named = [p.replace("→", "->").replace(" ", "") for p in pairs or [pair]]
    return (
        pair in named
        and (not methods or row["method"] in methods)
        and (not seeds or row["seed"] in seeds)
    )


def _text(rows: list[dict[str, Any]], total: int, score: str) -> str:
    from tabulate import tabulate

    from wcordbench.results.scored import TEST

    table = [
        [
            f"{r['score']:.2f}",
            r["method"],
            f"{r['teacher']}->{r['student']}" if r["teacher"] else r["student"],
            r["seed"],
            r["epochs"],
            r["run"]
            + ("" if r["images"] == TEST else f" (on {r['images']})")
            + ("" if r["weights"] else " (no weights here)"),
        ]
        for r in rows
    ]
    headers = [score, "method", "pair", "seed", "epochs", "run"]
    lines = [tabulate(table, headers, disable_numparse=True, colalign=("right",))]
    if len(rows) < total:
        lines.append(f"{len(rows)} of {total} finished runs; --top 0 lists all")
    return "\n".join(lines)
