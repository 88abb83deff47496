"""A suite's table as data: the rows and columns of the paper, before any rendering."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from wcordbench.errors import UserError
from wcordbench.registry import nearest
from wcordbench.reporting import published
from wcordbench.reporting.published import Beside, Rule
from wcordbench.reporting.remarks import Footnotes, remarks
from wcordbench.results import evaluations
from wcordbench.results.earlier import of_other_code
from wcordbench.results.size import Size
from wcordbench.results.statistics import Difference, Verdict
from wcordbench.results.store import Store
from wcordbench.results.summary import Summary, summarise
from wcordbench.results.teachers import summarise_teacher
from wcordbench.suite.runs import Cell, Run
from wcordbench.suite.schema import Suite

METRICS = {
    "top1": "Top-1 test accuracy (%) after the last epoch",
    "top5": "Top-5 test accuracy (%) after the last epoch",
    "auc": "Test AUC (%) after the last epoch",
}
BEST_EPOCH = "BEST epoch on the test set: top-1 accuracy (%)"
Compare = Literal["published", "none"]
SIZES = (
    "Size: parameters and multiply-accumulates of one image, in millions, of what predicts: with"
    " what a method adds to the student, without a head that it does not use"
)


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
        summary: our seeds; of a teacher that is given as a file what it was measured to reach,
            None before that.
        published: the published number, if it is to be shown.
        alike: the published number is of this very configuration, but for the seeds.
        best: the highest mean of its column among the students that have the same seeds.
        notes: numbers of the footnotes, from 1.
        versus: the difference to the table's baseline, where that was asked for and both have
            seeds in common (see :func:`wcordbench.reporting.compare.against`).
        verdict: on the published number, where that was asked for (see
            :func:`wcordbench.reporting.compare.judged`).
        size: of what is deployed, where that was asked for.
    """

    summary: Summary | None
    published: published.Number | None = None
    alike: bool = False
    best: bool = False
    notes: tuple[int, ...] = ()
    versus: Difference | None = None
    verdict: Verdict | None = None
    size: Size | None = None

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
        pairs: see ``names``; empty where the networks are the names.
        labels: of the pairs, "" where the suite gives none; empty where it gives none at all.
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
    pairs: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the pairs, by which a suite tells its columns apart."""
        columns = zip(self.teachers, self.students, strict=True)
        return self.pairs or [f"{teacher}->{student}" for teacher, student in columns]

    @property
    def compared(self) -> list[int]:
        """The columns in which at least one of ours stands beside a published number."""
        columns = range(len(self.students))
        return [c for c in columns if any(entries[c].delta is not None for _, entries in self.rows)]

    @property
    def sized(self) -> list[int]:
        """The columns in which sizes are shown."""
        columns = range(len(self.students))
        return [c for c in columns if any(entries[c].size for _, entries in self.rows)]

    @property
    def ranks(self) -> dict[str, Rank]:
        """Each method's rank by mean (1 is best), averaged over the columns it is ranked in.

        Methods that share a mean share the rank between them. One with fewer seeds than others of
        its column is not ranked there. Empty for a table of one column, whose order is plain to
        see.
        """
        of: dict[str, list[float]] = {}
        if len(self.students) < 2:
            return {}
        ranked = 0
        for column in range(len(self.students)):
            means = _means(self.rows, column)
            ranked += bool(means)
            for name, mean in means.items():
                above = sum(other > mean for other in means.values())
                ties = sum(other == mean for other in means.values())
                of.setdefault(name, []).append(above + (ties + 1) / 2)
        return {n: Rank(statistics.fmean(r), len(r), ranked) for n, r in of.items()}


@dataclass(frozen=True)
class Rank:
    """A method's mean rank.

    Attributes:
        mean: over the columns in which it has a number.
        columns: how many those are.
        ranked: in how many columns methods were ranked at all.
    """

    mean: float
    columns: int
    ranked: int

    def __str__(self) -> str:
        """The rank, and how many columns it is of where it is not of all."""
        fewer = f" (n={self.columns})" * (self.columns < self.ranked)
        return f"{self.mean:.1f}{fewer}"


def build(
    suite: Suite,
    cells: Iterable[Cell],
    store: Store,
    compare: Compare | None,
    rule: Rule = "last",
    measurement: str | None = None,
    size_of: Callable[[Run, Store], Size | None] | None = None,
) -> Table:
    """Read the store and lay a suite's table out.

    Args:
        suite: the suite.
        cells: its cells (see :func:`wcordbench.suite.expand`), or those of them to show.
        store: where the runs are.
        compare: ``published`` sets the published numbers of a pair and method beside ours even
            where the configuration differs (a footnote then says how); None does so only where it
            is the same in everything but the seeds.
        rule: the epoch that counts. The best one is labelled as such; published numbers are
            those of the same rule.
        measurement: show what was measured of the runs under this name after their training
            (see :mod:`wcordbench.results.evaluations`), never beside published numbers.
        size_of: tells the size of what is deployed of a run; None leaves sizes out.

    Raises:
        UserError: a result is damaged, there is nothing published to compare with, or no best
            epoch is known of the suite's metric.
    """
    if compare == "published" and suite.dataset.holdout is not None:
        raise UserError(
            "--compare published: the scores are of training images held out (dataset.holdout), and"
            " the published numbers of the test images; leave it out"
        )
    if rule == "best":
        _best_epoch_known(suite)
    cells = list(cells)
    if measurement is not None:
        _measurement_known(measurement, cells, store, compare, rule)
        compare = "none"
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        row = "Teacher" if cell.method is None else cell.method.title
        groups.setdefault((row, cell.pair.name), []).append(cell)
    shown = {pair for _, pair in groups}
    pairs = [p for p in suite.pairs if p.name in shown]
    titles = [m.title for m in suite.methods if any(row == m.title for row, _ in groups)]
    found = _published(groups, suite.metric, compare, rule)
    if compare == "published" and not found:
        raise UserError(
            f"--compare published: nothing is published of these pairs and methods for dataset"
            f" {suite.dataset.name!r}, metric {suite.metric} and the {rule} epoch; leave it out"
        )
    footnotes = Footnotes(suite, found, compare)
    score = "best_top1" if rule == "best" else suite.metric
    rows: list[tuple[str, list[Entry]]] = []
    for name in ["Teacher", *titles]:
        entries = []
        for pair in pairs:
            of = groups.get((name, pair.name))
            summary = summarise([c.run for c in of], store, score, measurement) if of else None
            if of is None and name == "Teacher" and measurement is None:  # given as a file
                taught = [c.run for (_, at), of in groups.items() if at == pair.name for c in of]
                summary = summarise_teacher(taught, store, score)
            beside = found.get((name, pair.name))
            alike = beside is not None and beside.alike
            shows = compare == "published" or (compare is None and alike)
            entries.append(
                Entry(
                    summary,
                    beside.number if beside is not None and shows else None,
                    alike=alike,
                    notes=footnotes.of(name, pair, of[0] if of else None, summary),
                    size=size_of(of[0].run, store) if of and size_of is not None else None,
                )
            )
        rows.append((name, entries))
    _mark_best(rows)
    title = suite.title or suite.name
    seeds = {c.seed for of in groups.values() for c in of if c.method is not None}
    return Table(
        title + " (BEST epoch)" * (rule == "best"),
        measured(suite, rule == "best") if measurement is None else _of_measurement(measurement),
        [p.teacher.model for p in pairs],
        [p.student for p in pairs],
        rows,
        footnotes.texts,
        [
            *remarks(suite, pairs, seeds, rows, footnotes, rule, measurement),
            *filter(None, [of_other_code((c.run for c in cells), store)]),
            *([SIZES] if size_of is not None else []),
        ],
        pairs=[p.name for p in pairs],
        labels=[p.label or "" for p in pairs] if any(p.label for p in pairs) else [],
    )


def _published(
    groups: dict[tuple[str, str], list[Cell]],
    metric: str,
    compare: Compare | None,
    rule: Rule,
) -> dict[tuple[str, str], Beside]:
    """The published number nearest to each row and pair, where there is one."""
    look = published.asked_for if compare == "published" else published.beside
    found = {at: look(of[0], metric, rule) for at, of in groups.items()}
    for (_, pair), (cell, *_) in list(groups.items()):
        taught = cell.run.config["teacher"] is not None
        if taught and cell.pair.teacher.checkpoint is not None and ("Teacher", pair) not in groups:
            found["Teacher", pair] = published.teacher_from_file(cell.pair, cell, metric, rule)
    return {at: beside for at, beside in found.items() if beside is not None}


def _measurement_known(
    measurement: str, cells: list[Cell], store: Store, compare: Compare | None, rule: Rule
) -> None:
    name = measurement.partition("/")[0]
    known = evaluations.names([store.folder(c.run) for c in cells])
    if name not in known:
        hint = nearest(name, known) or (
            "; none of these runs has one: wcordbench evaluate and wcordbench probe make them"
        )
        raise UserError(f"--metric {name!r} is no measurement of these runs{hint}")
    if compare == "published" or rule == "best":
        raise UserError(
            f"--metric {measurement}: what was measured after the training has no published number"
            " and no best epoch; leave the other out"
        )


def _of_measurement(measurement: str) -> str:
    name, _, key = measurement.partition("/")
    what = {"top5": "Top-5 accuracy", "auc": "AUC"}.get(key, "Top-1 accuracy")
    probe, colon, of = name.partition(":")
    how = f"of a linear probe on {of!r}" if colon and probe == "probe" else f"on {name!r}"
    return f"{what} (%) {how}, of the students after the last epoch"


def _best_epoch_known(suite: Suite) -> None:
    if suite.metric != "top1":
        raise UserError(
            "--rule best: only top-1 accuracy is stored for the best epoch, and suite"
            f" {suite.name!r} is measured by {suite.metric}; leave it out"
        )


def _means(rows: list[tuple[str, list[Entry]]], column: int) -> dict[str, float]:
    """The students' means of a column, by row, that can be put in order: of the same seeds.

    Those are the seeds of the row that has most of them. Empty below two such rows.
    """
    of = {name: e[column].summary for name, e in rows if name != "Teacher"}
    known = {name: s for name, s in of.items() if s is not None and s.values}
    most = max((set(s.seeds) for s in known.values()), key=len, default=set())
    alike = {
        name: mean
        for name, s in known.items()
        if set(s.seeds) == most and (mean := s.mean) is not None
    }
    return alike if len(alike) > 1 else {}


def _mark_best(rows: list[tuple[str, list[Entry]]]) -> None:
    by_row = dict(rows)
    for column in range(len(rows[0][1])):
        means = {name: round(mean, 2) for name, mean in _means(rows, column).items()}
        for name, mean in means.items():
            if mean == max(means.values()):
                by_row[name][column] = replace(by_row[name][column], best=True)
