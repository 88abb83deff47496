"""What each method's published protocol changes, and what the best epoch adds: a page.

``protocols.csv`` holds a line for each method whose authors' protocol is known: where their code
stands, what it does otherwise than the CRD tables' protocol (an empty field: nothing), and which
epoch it reports. A method without a line is not in the page's first table.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wcordbench import registry
from wcordbench.reporting.published import PROTOCOLS
from wcordbench.results.scored import trained_on
from wcordbench.results.store import Store

FOLDER = Path(__file__).parent
CRD = (
    "The CRD protocol, which the shipped suites of the paper's pairs use: SGD with momentum 0.9,"
    " weight decay 5e-4, batch 64, 240 epochs, learning rate 0.05 (0.01 for mobilenetv2 and the"
    " ShuffleNets), divided by 10 after 150, 180 and 210 epochs, crops padded by 4 and flips, the"
    " accuracy after the last epoch."
)
CHANGES_REMARK = (
    "In brackets: the rate for mobilenetv2 and the ShuffleNets. An empty field is the CRD"
    " protocol's. `not stated`: neither paper nor code says which epoch the numbers are of. None"
    " of these repositories has a validation split: what they tune for a pair was tuned on the"
    " test images or not at all, and the best epoch is the best on the test images."
)
NUMBERS_REMARK = (
    "A published number is set beside a score of the same epoch's rule and the same configuration"
    " only (`wcordbench table --rule`). The last column names the suites whose runs a protocol's"
    " numbers are of, as far as they have the pair; without one, `--compare published` alone shows"
    " them, and where the epoch is not stated, nothing does. A protocol that begins with `quoted`"
    " is of numbers that one paper quotes from another."
)
GAPS_REMARK = (
    "Best epoch on the test images minus last epoch, top-1 accuracy in points: mean ± sample"
    " standard deviation over the finished students in `{}`, and of how many, all options and"
    " pairs of a method together. A schedule whose rate falls to zero ends at its best epoch or"
    " near it."
)
CHANGES = ("batch", "rate", "epochs", "views", "other")


def page(store: Store) -> str:
    """The page as Markdown.

    Args:
        store: the runs whose best epochs are compared with their last.

    Raises:
        UserError: a result is damaged.
    """
    parts = [
        "# Protocols",
        "The command `wcordbench protocols` prints this page.",
        "## What the published protocols change",
        CRD,
        _changes(),
        CHANGES_REMARK,
        "## Published numbers",
        NUMBERS_REMARK,
        _numbers(),
        "## What the best epoch adds",
        _gaps(store),
    ]
    return "\n\n".join(parts)


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def changes() -> list[dict[str, str]]:
    """The lines of ``protocols.csv``, in the order of the file."""
    return _rows("protocols.csv")


def _changes() -> str:
    known = registry.catalogue("method")
    rows = []
    for line in changes():
        entry = known.get(line["method"])
        title = entry.meta.get("title", line["method"]) if entry else line["method"]
        rows.append((f"{title} (`{line['method']}`)", line["code"], *_fields(line), line["rule"]))
    return _markdown(("method", "code, commit", *CHANGES, "reported epoch"), rows)


def _fields(line: dict[str, str]) -> list[str]:
    return [line[key] for key in CHANGES]


def _numbers() -> str:
    counts: Counter[tuple[str, str]] = Counter()
    methods: dict[tuple[str, str], dict[str, None]] = {}
    for row in _rows("published.csv"):
        key = (row["protocol"], row["rule"])
        counts[key] += 1
        methods.setdefault(key, {})[row["method"].partition("(")[0]] = None
    rows = [
        (
            protocol,
            rule,
            count,
            ", ".join(methods[protocol, rule]),
            ", ".join(f"`{name}`" for name in PROTOCOLS.get(protocol, ())),
        )
        for (protocol, rule), count in counts.items()
    ]
    return _markdown(("protocol", "epoch", "numbers", "of", "suites"), rows, right=(2,))


def gaps(store: Store) -> dict[str, dict[str, list[float]]]:
    """Best minus last top-1 accuracy, in points, by method and then by schedule.

    Of every finished student; a run that another learns from, finished or begun, is a teacher and
    left out.

    Raises:
        UserError: a result is damaged.
    """
    found: list[tuple[str, str, str, float]] = []
    teachers: set[str] = set()
    for folder in store.folders():
        if folder.state == "missing":
            continue
        done = folder.state == "done"
        record: dict[str, Any] = folder.result() if done else folder.read_json("run.json")
        config, scores = record["config"], record.get("scores", {})
        if config["teacher"] and "run" in config["teacher"]:
            teachers.add(config["teacher"]["run"])
        if "best_top1" in scores:
            gap = scores["best_top1"] - scores["top1"]
            found.append((record["id"], config["method"]["name"], _schedule(config), gap))
    by_method: dict[str, dict[str, list[float]]] = {}
    for run, method, schedule, gap in sorted(found, key=lambda row: row[1:]):
        if run not in teachers:
            by_method.setdefault(method, {}).setdefault(schedule, []).append(gap)
    return by_method


def _schedule(config: dict[str, Any]) -> str:
    """What a run was trained on, as it saw it, and for how long."""
    train = config["train"]
    held = " (held-out images)" if "holdout" in config["dataset"] else ""
    precision = train.get("precision", "fp32")
    within = "" if precision == "fp32" else f" in {precision}"
    return f"{trained_on(config)}{held}, {train['epochs']} epochs{within}"


def _gaps(store: Store) -> str:
    by_method = gaps(store)
    if not by_method:
        return f"No run in {store.root} is done."
    lengths = {schedule for of in by_method.values() for schedule in of}
    schedules = sorted(
        lengths, key=lambda s: (s.partition(",")[0], int(s.rpartition(" epochs")[0].split()[-1]), s)
    )
    rows = [
        (f"`{method}`", *(_gap(of.get(schedule, [])) for schedule in schedules))
        for method, of in by_method.items()
    ]
    every = [[g for of in by_method.values() for g in of.get(s, [])] for s in schedules]
    rows.append(("all", *map(_gap, every)))
    text = GAPS_REMARK.format(store.root.as_posix())
    return f"{text}\n\n{_markdown(('method', *schedules), rows)}"


def _gap(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.2f}"
    if len(values) > 1:
        mean += f" ± {statistics.stdev(values):.2f}"
    return f"{mean} ({len(values)})"


def _markdown(
    headers: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()
) -> str:
    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(map(str, cells)) + " |"

    rule = ["---:" if i in right else "---" for i in range(len(headers))]
    return "\n".join([line(headers), line(rule), *map(line, rows)])


__all__ = ["changes", "gaps", "page"]
