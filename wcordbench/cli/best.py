"""``wcordbench best``: finished runs, the highest score first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from wcordbench.results.store import RunFolder


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
        shown_as = _stored(store.folders(), pair, method, seed, teachers)
        rows = [_row(f, title, score) for f, title in shown_as]
    found = sorted((r for r in rows if r is not None), key=lambda r: (-r["score"], r["run"]))
    if not found:
        of = "" if suite is None else f" of {suite}"
        raise UserError(f"no finished run{of} in {results} has a {score} and fits the selection")
    shown = found[:top] if top else found
    typer.echo(json.dumps(shown, indent=1) if form == "json" else _text(shown, len(found), score))


def _row(folder: Any, title: str | None, score: str) -> dict[str, Any] | None:
    """A finished run as a row; None where it is not finished, or has no such score."""
    from wcordbench.results.scored import scored_on, trained_on

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
        "trained_on": trained_on(config),
        "images": scored_on(config),
        "method": title or config["method"]["name"],
        "teacher": teacher,
        "student": config["model"],
        "seed": config["seed"],
        "epochs": config["train"]["epochs"],
        "weights": (folder.path / "student.pt").is_file(),
    }


def _stored(
    folders: Iterable[RunFolder],
    pairs: list[str] | None,
    methods: list[str] | None,
    seeds: list[int] | None,
    teachers: bool,
) -> list[tuple[RunFolder, str | None]]:
    """The runs that the options leave of all that are stored, teachers with their title.

    A plain student belongs to every pair whose distilled students are trained as it is, or,
    where there is none, to those of its network. A run that taught others and is no pair's plain
    student is a teacher, and is left with the students that it taught.
    """
    from wcordbench.suite.runs import digest

    found = [(folder, _config(folder)) for folder in folders]
    known = [(folder, config) for folder, config in found if config is not None]
    beside: dict[str, set[str]] = {}
    for _, config in known:
        if config["teacher"]:
            pair = f"{config['teacher']['model']}->{config['model']}"
            beside.setdefault(_alike(config), set()).add(pair)
    taught = {c["teacher"].get("run") for _, c in known if c["teacher"]}
    named = {p.replace("→", "->").replace(" ", "") for p in pairs or []}

    def fits(config: dict[str, Any]) -> bool:
        own = beside.get(_alike(config), set())
        if config["teacher"]:
            own = {f"{config['teacher']['model']}->{config['model']}"}
        elif not own:
            own = {p for p in named if p.endswith(f"->{config['model']}")}
        return (
            (not pairs or bool(own & named))
            and (not methods or config["method"]["name"] in methods)
            and (not seeds or config["seed"] in seeds)
        )

    def teaches(config: dict[str, Any]) -> bool:
        return not config["teacher"] and digest(config) in taught and _alike(config) not in beside

    kept = [(f, c) for f, c in known if not teaches(c) and fits(c)]
    theirs = {c["teacher"].get("run") for _, c in kept if c["teacher"]} if teachers else set()
    return [
        *((f, None) for f, _ in kept),
        *((f, "Teacher") for f, c in known if teaches(c) and digest(c) in theirs),
    ]


def _config(folder: RunFolder) -> dict[str, Any] | None:
    if folder.state == "done":
        return dict(folder.result(best=False)["config"])
    try:  # not finished: it tells who taught it all the same
        return dict(folder.read_json("run.json")["config"])
    except (UserError, KeyError, TypeError):
        return None


def _alike(config: dict[str, Any]) -> str:
    """What a plain student has in common with the students that it is compared with."""
    train = {k: v for k, v in config["train"].items() if k != "first_stage"}
    parts = [config["dataset"], config["model"], config.get("view"), train]
    return json.dumps(parts, sort_keys=True)


def _text(rows: list[dict[str, Any]], total: int, score: str) -> str:
    from tabulate import tabulate

    from wcordbench.results.scored import TEST

    table = [
        [
            f"{r['score']:.2f}",
            r["method"],
            f"{r['teacher']}->{r['student']}" if r["teacher"] else r["student"],
            r["seed"],
            r["trained_on"],
            r["epochs"],
            r["run"]
            + ("" if r["images"] == TEST else f" (on {r['images']})")
            + ("" if r["weights"] else " (no weights here)"),
        ]
        for r in rows
    ]
    headers = [score, "method", "pair", "seed", "dataset", "epochs", "run"]
    lines = [tabulate(table, headers, disable_numparse=True, colalign=("right",))]
    if len(rows) < total:
        lines.append(f"{len(rows)} of {total} finished runs; --top 0 lists all")
    return "\n".join(lines)
