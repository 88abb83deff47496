"""What a table says below itself: footnotes of cells, and sentences on the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from wcordbench import registry
from wcordbench.data.fingerprints import distinct
from wcordbench.reporting.configuration import Leaf, differences, phrases
from wcordbench.reporting.published import NOT_PUBLIC, PRIVILEGED_REMARK, Beside, Rule
from wcordbench.results.summary import Summary
from wcordbench.suite.protocol import merge
from wcordbench.suite.runs import Cell, protocol
from wcordbench.suite.schema import Pair, Suite, Train

if TYPE_CHECKING:
    from wcordbench.reporting.table import Entry

IN_BRACKETS = "In brackets: the published number."
MIXED = "Some runs were trained on"
NOT_COMPARABLE = "The published numbers are NOT comparable."


class Footnotes:
    """Collects the footnotes of a table's cells, each text once.

    Args:
        suite: the suite.
        found: the published number nearest to each row and pair, where there is one.
        compare: see :func:`wcordbench.reporting.table.build`.

    Attributes:
        texts: the footnotes, in order.
        common: how every cell that has a published number by its name differs from that
            number's run; said once for the table. Empty where one of them does not differ.
        asked: numbers are shown that are of other configurations.
    """

    def __init__(
        self, suite: Suite, found: Mapping[tuple[str, str], Beside], compare: str | None
    ) -> None:
        self.texts: list[str] = []
        self._suite, self._found, self._compare = suite, found, compare
        self.common = _common([b for (row, _), b in found.items() if row != "Teacher"])
        self.asked = compare == "published" and any(not b.alike for b in found.values())
        self.shown = [b for b in found.values() if b.alike and compare != "none"] or (
            list(found.values()) if compare == "published" else []
        )

    def of(
        self, row: str, pair: Pair, cell: Cell | None, summary: Summary | None
    ) -> tuple[int, ...]:
        """The numbers of a cell's footnotes.

        Args:
            row: its name.
            pair: its column.
            cell: one of its runs; None where the suite trains none.
            summary: its runs' results.
        """
        texts = []
        if summary is not None and summary.undefined is not None:
            texts.append(f"N/A: {summary.undefined}")
        elif summary is not None and summary.failures:
            texts.append(f"{len(summary.failures)} failed: {summary.failures[0]}")
        own = _own_protocol(self._suite, cell) if cell is not None else []
        beside = self._found.get((row, pair.name))
        if beside is not None and beside.alike:  # a first stage is published with its method
            own = [f for f in own if f.path[0] != "first_stage"]
        leaves = list(beside.differences or ()) if beside and self._compare != "none" else []
        said = {leaf.key for leaf in self.common}
        rest = [f for f in leaves if f.key not in said]
        if row == "Teacher":
            rest = [f for f in rest if ("teacher", *f.key) not in said]
        else:
            rest = [f for f in rest if f.path[0] != "teacher" or f.key[1:] not in said]
        if own:
            texts.append(f"another protocol: {'; '.join(phrases(own, ' in place of '))}")
            trained = {("train", *f.key[:-1]) for f in own}
            rest = [f for f in rest if f.key[:-1] not in trained]
            if leaves and not rest and not said:
                texts[-1] += ", which is not the published run's"
        if rest:
            shown = self._compare == "published"
            what = "not the published run" if shown else "no published number"
            texts.append(f"{what}: {'; '.join(phrases(rest, ', published '))}")
        if beside is not None and beside.differences is None and self._compare == "published":
            under = beside.number.protocol
            texts += [f"published under another protocol, {under}"] * (under not in NOT_PUBLIC)
        return tuple(self._number(text) for text in texts)

    def _number(self, text: str) -> int:
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def _common(found: list[Beside]) -> list[Leaf]:
    """What all students differ in, and of those that are taught, what all their teachers do."""
    students = [b.differences for b in found if b.differences is not None]
    if not students or () in students:
        return []
    taught = [s for s in students if any(leaf.path[0] == "teacher" for leaf in s)]
    own, teachers = (set.intersection(*({f.key for f in s} for s in of)) if of else set()
                     for of in (students, taught))  # fmt: skip
    leaves = {f.key: f for s in students for f in s}
    return [f for k, f in leaves.items() if k in own or (k in teachers and f.path[0] == "teacher")]


def _own_protocol(suite: Suite, cell: Cell) -> list[Leaf]:
    """Where a student is trained otherwise than its column, a teacher otherwise than the suite."""
    train = suite.train if cell.method is None else merge(suite.train, cell.pair.train)
    return _protocols(cell.run.config["train"], train)


def _protocols(ours: Mapping[str, object], train: Train) -> list[Leaf]:
    theirs = protocol(train, "first_stage" in ours)
    return differences({**ours, "teacher": None}, {**theirs, "teacher": None})


def cautions(said: Iterable[str]) -> list[str]:
    """Of the sentences under a table, those of runs that are missing or not of one kind."""
    kinds = ("NOT comparable", MIXED, "runs of the table are done", "that were not committed")
    return [sentence for sentence in said if any(kind in sentence for kind in kinds)]


def remarks(
    suite: Suite,
    pairs: list[Pair],
    seeds: set[int],
    rows: list[tuple[str, list[Entry]]],
    footnotes: Footnotes,
    rule: Rule,
    measurement: str | None = None,
) -> list[str]:
    """The sentences under a table.

    Args:
        suite: the suite.
        pairs: those shown.
        seeds: those that the shown students have.
        rows: of the table.
        footnotes: of the table.
        rule, measurement: see :func:`wcordbench.reporting.table.build`.
    """
    summaries = [e.summary for _, entries in rows for e in entries if e.summary is not None]
    wanted = sum(s.wanted for s in summaries if s.undefined is None)
    have = sum(len(s.values) for s in summaries)
    said = ["One seed, so without a deviation; teachers are trained once."]
    if len(seeds) > 1:
        said = [
            f"Mean ± sample standard deviation over {len(seeds)} seeds; a cell with fewer says how"
            " many; teachers are trained once."
        ]
    if have < wanted:
        said.append(f"{have} of {wanted} runs of the table are done; – marks a missing cell.")
    images = distinct(frozenset[str]().union(*(s.fingerprints for s in summaries)))
    if len(images) > 1:
        said.append(
            f"NOT comparable with each other: the dataset's images were changed between runs"
            f" ({len(images)} fingerprints); wcordbench verify names the runs."
        )
    measured = frozenset[str]().union(*(s.measured for s in summaries))
    if measurement is not None and len(measured) > 1:
        name = measurement.partition("/")[0]
        said.append(
            f"NOT comparable with each other: {name!r} was measured on other images, or with"
            f" other settings, from run to run ({len(measured)} of them); measure all of these runs"
            " on one dataset under another --name."
        )
    said += _other_teachers(pairs, rows)
    automatic = frozenset[str]().union(*(s.automatic for s in summaries))
    if len(automatic) > 1:
        said.append(
            "NOT comparable with each other: 'precision: auto' was"
            f" {' in some runs and '.join(sorted(automatic))} in others; write the precision in"
            " the suite."
        )
    arithmetic = frozenset[str]().union(*(s.arithmetic for s in summaries))
    if len(arithmetic) > 1:
        said.append(
            f"{MIXED} {', some on '.join(sorted(arithmetic))}: their arithmetic"
            " rounds otherwise, and a difference between them may be of that."
        )
    uncommitted = frozenset[str]().union(*(s.uncommitted for s in summaries))
    if uncommitted:
        runs = f"{len(uncommitted)} run{'s' * (len(uncommitted) != 1)}"
        said.append(
            f"{runs} trained by code with changes that were not committed: no commit gives"
            f" {'it' if len(uncommitted) == 1 else 'them'} again."
        )
    if suite.dataset.title:
        said.append(f"{'Dataset' if measurement is None else 'Trained on'}: {suite.dataset.title}.")
    if suite.dataset.holdout is not None and measurement is None:
        said.append(
            f"Scores are of {suite.dataset.holdout:,} training images that no network here was"
            " trained on, as many of each class; the test images were not used. Not comparable with"
            " scores on test images, nor with published ones."
        )
    said += _pairs_of_their_own(suite, pairs)
    own = _options_of_their_own(suite, pairs, [name for name, _ in rows])
    if own:
        said.append(f"With other options from pair to pair, as the suite says: {', '.join(own)}.")
    said += _on_published(suite, footnotes)
    if rule == "best":
        said.append(
            f"Best epoch on the {'TEST set' if suite.dataset.holdout is None else 'images shown'}:"
            " not comparable with accuracies after the last epoch, which are what counts. Choosing"
            " the epoch by the images that are shown flatters every method."
        )
    return said


def _other_teachers(pairs: list[Pair], rows: list[tuple[str, list[Entry]]]) -> list[str]:
    """The columns whose students were not all taught by the same weights."""
    said = []
    for column, pair in enumerate(pairs):
        cells = {name: entries[column].summary for name, entries in rows}
        taught = [s.teachers for name, s in cells.items() if name != "Teacher" and s is not None]
        teachers = frozenset[str]().union(*taught)
        shown = cells.get("Teacher")
        if teachers and shown is not None:
            teachers |= shown.weights
        if len(teachers) > 1:
            said.append(
                f"NOT comparable with each other: students of {pair.shown} were taught by other"
                f" weights than the teacher's or each other's ({len(teachers)} of them); wcordbench"
                " verify names the runs."
            )
    return said


def _pairs_of_their_own(suite: Suite, pairs: list[Pair]) -> list[str]:
    """Which columns have a protocol of their own."""
    groups: dict[str, list[str]] = {}
    for pair in pairs if len(suite.pairs) > 1 else []:
        train = merge(suite.train, pair.train)
        leaves = _protocols(protocol(train, two_stage=True), suite.train)
        if leaves:
            text = "; ".join(phrases(leaves, " in place of "))
            groups.setdefault(text, []).append(pair.shown)
    return [f"Students of {', '.join(of)}: {text}." for text, of in groups.items()]


def _options_of_their_own(suite: Suite, pairs: list[Pair], rows: list[str]) -> list[str]:
    """The rows whose method is not the same in all columns."""
    found = []
    for method in suite.methods:
        specs = [method.on(pair) for pair in pairs]
        kinds = {repr((spec.cross_entropy(), spec.terms())) for spec in specs}
        if method.title in rows and len(kinds) > 1:
            found.append(method.title)
    return found


def _on_published(suite: Suite, footnotes: Footnotes) -> list[str]:
    """What is said of the published numbers, if anything is published of what is shown."""
    not_public = any(b.number.protocol in NOT_PUBLIC for b in footnotes.shown)
    above = f"{IN_BRACKETS} {PRIVILEGED_REMARK}" if not_public else IN_BRACKETS
    meta = registry.get("dataset", suite.dataset.name).meta
    title = suite.dataset.title or meta.get("title", suite.dataset.name)
    parts = []
    if footnotes.common:
        how = "; ".join(phrases(footnotes.common, ", published "))
        parts.append(f"Not the published protocol on {title}: {how}.")
        if not footnotes.asked:
            parts.append("Not comparable with the published numbers, which are left out.")
    if footnotes.asked:
        parts.append(NOT_COMPARABLE)
    said = [" ".join(parts)] if parts else []
    return [above] * (bool(footnotes.shown) and (not_public or not footnotes.asked)) + said
