"""A suite's table as data: the rows and columns of the paper, before any rendering."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.reporting import published
from wcordbench.results.statistics import Difference, Verdict
from wcordbench.results.store import Store
from wcordbench.results.summary import Summary, summarise
from wcordbench.suite.runs import Cell, Run
from wcordbench.suite.schema import MethodSpec, Pair, Suite

METRICS = {
    "top1": "Top-1 test accuracy (%) after the last epoch",
    "top5": "Top-5 test accuracy (%) after the last epoch",
    "auc": "Test AUC (%) after the last epoch",
}
IN_BRACKETS = "In brackets: the published number."
NOT_COMPARABLE = "The published numbers are NOT comparable."
BEST_EPOCH = "BEST epoch on the test set: top-1 accuracy (%)"
Compare = Literal["published", "none"]


def measured(suite: Suite, best_epoch: bool = False) -> str:
    """What a suite's numbers are, and of which images."""
    held = suite.dataset.holdout
    if held is None:
        return BEST_EPOCH if best_epoch else METRICS[suite.metric]
    what = {"top1": "Top-1 accuracy", "top5": "Top-5 accuracy", "auc": "AUC"}[suite.metric]
    when = "best" if best_epoch else "last"
    return f"{what} (%) of {held:,} training images held out, after the {when} epoch"


@dataclass(frozen=True)
class Entry:
    """One cell.

    Attributes:
        summary: our seeds; None where the suite does not train this (a given checkpoint).
        published: the published number, if it is to be shown.
        best: the highest mean of its column among the students.
        note: number of the footnote, from 1.
        versus: the difference to the table's baseline, where that was asked for and both have
            seeds in common (see :func:`wcordbench.reporting.compare.against`).
        verdict: on the published number, where that was asked for (see
            :func:`wcordbench.reporting.compare.judged`).
    """

    summary: Summary | None
    published: published.Number | None = None
    best: bool = False
    note: int | None = None
    versus: Difference | None = None
    verdict: Verdict | None = None

    @property
    def delta(self) -> float | None:
        """Ours minus the published mean, in points; None where either is missing."""
        if self.published is None or self.summary is None or self.summary.mean is None:
            return None
        return self.summary.mean - self.published.mean


@dataclass(frozen=True)
class Table:
    """What every format renders.

    Attributes:
        title: of the suite.
        metric: what the numbers are.
        teachers, students: the two header rows, one name a column.
        rows: (name, entries), in the paper's order.
        notes: footnotes of cells, then remarks on the whole table.
        remarks: sentences under the table.
        baseline: the row that the others are compared with, where that was asked for.
    """

    title: str
    metric: str
    teachers: list[str]
    students: list[str]
    rows: list[tuple[str, list[Entry]]]
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    baseline: str | None = None

    @property
    def compared(self) -> list[int]:
        """The columns in which at least one of ours stands beside a published number."""
        columns = range(len(self.students))
        return [c for c in columns if any(entries[c].delta is not None for _, entries in self.rows)]

    @property
    def ranks(self) -> dict[str, float]:
        """Each method's rank by mean (1 is best), averaged over the columns it has a number in.

        Methods that share a mean share the rank between them. Empty for a table of one
        column, whose order is plain to see.
        """
        of: dict[str, list[float]] = {}
        if len(self.students) < 2:
            return {}
        for column in range(len(self.students)):
            means = {
                name: summary.mean
                for name, entries in self.rows
                if name != "Teacher"
                and (summary := entries[column].summary) is not None
                and summary.mean is not None
            }
            if len(means) < 2:
                continue
            for name, mean in means.items():
                above = sum(other > mean for other in means.values())
                ties = sum(other == mean for other in means.values())
                of.setdefault(name, []).append(above + (ties + 1) / 2)
        return {name: statistics.fmean(ranks) for name, ranks in of.items()}


def build(
    suite: Suite,
    cells: Iterable[Cell],
    store: Store,
    compare: Compare | None,
    best_epoch: bool = False,
) -> Table:
    """Read the store and lay a suite's table out.

    Args:
        suite: the suite.
        cells: its cells (see :func:`wcordbench.suite.expand`), or those of them to show.
        store: where the runs are.
        compare: ``published`` sets the published numbers beside ours even where the protocol
            differs (a remark then says how); None does so only where it is the same.
        best_epoch: show the best epoch's accuracy in place of the last's, labelled as such and
            never beside published numbers.

    Raises:
        UserError: a result is damaged, there is nothing published to compare with, or no best
            epoch is known of the suite's metric.
    """
    if compare == "published" and suite.dataset.holdout is not None:
        raise UserError(
            "--compare published: the scores are of training images held out (dataset.holdout), and"
            " the published numbers of the test images; leave it out"
        )
    if best_epoch:
        _best_epoch_known(suite, compare)
        compare = "none"
    runs: dict[tuple[str, str], list[Run]] = {}
    for cell in cells:
        row = "Teacher" if cell.method is None else cell.method.title
        runs.setdefault((row, cell.pair.name), []).append(cell.run)
    shown = {pair for _, pair in runs}
    pairs = [p for p in suite.pairs if p.name in shown]
    methods = [m for m in suite.methods if any(row == m.title for row, _ in runs)]
    differences = published.differences(suite)
    table2 = published.privileged(suite) or (suite.metric == "auc" and compare == "published")
    if compare == "published" and differences is None and not table2:
        raise UserError(
            f"--compare published: nothing is published for dataset {suite.dataset.name!r};"
            " leave it out"
        )
    beside = compare == "published" or (compare is None and (differences == [] or table2))
    specs = {m.title: m for m in methods}
    numbers = published.numbers(suite.metric) if beside else {}
    score = "best_top1" if best_epoch else suite.metric
    notes: list[str] = []
    rows: list[tuple[str, list[Entry]]] = []
    for name, key in [("Teacher", "teacher"), *((m.title, m.name) for m in methods)]:
        entries = []
        for pair in pairs:
            seeds = runs.get((name, pair.name))
            summary = summarise(seeds, store, score) if seeds else None
            number = None
            if beside and name in specs:
                number = _number(pair, specs[name], suite)
            elif beside:
                number = numbers.get((pair.teacher.model, pair.student, key))
            entries.append(Entry(summary, number, note=_note(summary, notes)))
        rows.append((name, entries))
    _mark_best(rows)
    title, remarks = suite.title or suite.name, _remarks(suite, rows, differences, beside)
    if best_epoch:
        title += " (BEST epoch)"
        remarks.append(
            f"Best epoch on the {'TEST set' if suite.dataset.holdout is None else 'images shown'}:"
            " not comparable with accuracies after the last epoch, which are what counts, nor with"
            " published ones. Choosing the epoch by the images that are shown flatters every"
            " method."
        )
    return Table(
        title,
        measured(suite, best_epoch),
        [p.teacher.model for p in pairs],
        [p.student for p in pairs],
        rows,
        notes,
        remarks,
    )


def _best_epoch_known(suite: Suite, compare: Compare | None) -> None:
    if suite.metric != "top1":
        raise UserError(
            "--best-epoch: only top-1 accuracy is stored for the best epoch, and suite"
            f" {suite.name!r} is measured by {suite.metric}; leave it out"
        )
    if compare == "published":
        raise UserError(
            "--best-epoch: the published numbers are of the last epoch; leave out it or"
            " --compare published"
        )


def _number(pair: Pair, spec: MethodSpec, suite: Suite) -> published.Number | None:
    """The published number of a cell; of a sweep, the supplement's where the pair has none."""
    number = published.of_method(pair.teacher.model, pair.student, spec, suite.metric)
    if number is None and suite.metric == "auc":
        number = published.of_method(*published.PRIVILEGED, spec, suite.metric)
    return number


def _note(summary: Summary | None, notes: list[str]) -> int | None:
    if summary is None:
        return None
    if summary.undefined is not None:
        text = f"N/A: {summary.undefined}"
    elif summary.failures:
        text = f"{len(summary.failures)} failed: {summary.failures[0]}"
    else:
        return None
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def _mark_best(rows: list[tuple[str, list[Entry]]]) -> None:
    students = [entries for name, entries in rows if name != "Teacher"]
    for column in range(len(students[0]) if students else 0):
        means = [(e[column].summary.mean, e) for e in students if e[column].summary]  # type: ignore[union-attr]
        known = [(mean, entries) for mean, entries in means if mean is not None]
        if len(known) < 2:
            continue
        top = max(round(mean, 2) for mean, _ in known)
        for mean, entries in known:
            if round(mean, 2) == top:
                old = entries[column]
                entries[column] = replace(old, best=True)


def _remarks(
    suite: Suite,
    rows: list[tuple[str, list[Entry]]],
    differences: list[str] | None,
    beside: bool,
) -> list[str]:
    summaries = [e.summary for name, entries in rows for e in entries if e.summary is not None]
    wanted = sum(s.wanted for s in summaries if s.undefined is None)
    have = sum(len(s.values) for s in summaries)
    seeds = len(suite.seeds)
    remarks = ["One seed, so without a deviation; teachers are trained once."]
    if seeds > 1:
        remarks = [
            f"Mean ± sample standard deviation over {seeds} seeds; a cell with fewer says how many;"
            " teachers are trained once."
        ]
    if have < wanted:
        remarks.append(f"{have} of {wanted} cell samples are done; – marks a missing cell.")
    images = frozenset[str]().union(*(s.fingerprints for s in summaries))
    if len(images) > 1:
        remarks.append(
            f"NOT comparable with each other: the dataset's images were changed between runs"
            f" ({len(images)} fingerprints); wcordbench verify names the runs."
        )
    title = registry.get("dataset", suite.dataset.name).meta.get("title", suite.dataset.name)
    if suite.dataset.holdout is not None:
        remarks.append(
            f"Scores are of {suite.dataset.holdout:,} training images that no network here was"
            " trained on, as many of each class; the test images were not used. Not comparable with"
            " scores on test images, nor with published ones."
        )
    if differences:
        schedule = f"Reduced schedule on {title}: {'; '.join(differences)}."
        if beside:
            schedule += f" {NOT_COMPARABLE}"
        else:
            schedule += " Not comparable with the published numbers, which are left out."
        remarks.append(schedule)
    elif suite.metric == "auc":
        if beside:
            remarks.append(f"{IN_BRACKETS} {published.PRIVILEGED_REMARK}")
    elif beside:
        remarks.append(IN_BRACKETS)
    return remarks
