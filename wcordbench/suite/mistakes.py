"""All mistakes of a suite's file at once, for ``wcordbench validate``.

A validator that compares values runs only where each value is valid by itself, and stops at the
first contradiction. So what is wrong is replaced by something valid, in a copy, and the copy is
validated again until nothing is left.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wcordbench.errors import UserError
from wcordbench.suite.base import Mistake
from wcordbench.suite.blame import Location, every, fields_at
from wcordbench.suite.load import read_suite
from wcordbench.suite.runs import expand
from wcordbench.suite.schema import Suite
from wcordbench.suite.sweep import in_file

#: lists whose items are dropped one by one
LISTS = ("seeds", "pairs", "methods")
#: more repairs than any file needs
MOST = 200


def mistakes(path: str | Path, overrides: Iterable[str] = ()) -> tuple[Suite | None, list[str]]:
    """Everything that is wrong with a suite, each in one sentence.

    Returns:
        The suite, or what is valid of it, where enough is left to check the networks' shapes;
        and the sentences, none where it is valid.

    Raises:
        UserError: the file cannot be read as a suite at all, or an override is wrong.
    """
    found = read_suite(path, overrides)
    if found.problem is not None:
        return None, [found.sentence(found.problem)]
    repair = _Repair(found.data)
    suite = repair.run()
    sentences = [
        found.sentence(Mistake(m.message, *in_file(m.at, found.swept))) for m in repair.found
    ]
    if suite is not None:
        suite._source = found.source
        suite._swept = [found.swept[i] for i in repair.kept["methods"] if 0 <= i < len(found.swept)]
        suite._pairs = repair.kept["pairs"]
        try:
            expand(suite, unfetched=True)
        except UserError as error:
            sentences.append(str(error))
            suite = None
    return suite, list(dict.fromkeys(sentences))


class _Repair:
    """A suite's mapping, validated and repaired until it is valid.

    Args:
        data: the mapping; it stays as it is.

    Attributes:
        found: the mistakes, at their places in ``data``.
        kept: which items of each of :data:`LISTS` are left, by their numbers in ``data``.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.original, self.data = data, copy.deepcopy(data)
        self.found: list[Mistake] = []
        self.kept = {
            name: list(range(len(data[name]))) if isinstance(data.get(name), list) else []
            for name in LISTS
        }
        #: places whose contents are not the file's any more: what is said of them is not reported
        self.replaced: list[Location] = []
        #: keys that misspelt ones were meant to be
        self.meant: set[Location] = set()

    def run(self) -> Suite | None:
        """Validate and repair; None where that does not come to an end."""
        for _ in range(MOST):
            try:
                return Suite.model_validate(self.data)
            except ValidationError as error:
                wrong = every(error, self.data)
            known = {m.at for m in self.found}
            self.meant |= {_meant(m, self._in_original(m.at)) for m in wrong}
            for mistake in wrong:
                at = self._in_original(mistake.at)
                if mistake.message == "is missing" and at in self.meant:
                    continue  # the unknown key that was meant to be it is named
                if any(at == m[:-1] and m[-1] for m in self.meant):
                    continue  # what a mapping lacks may be what a misspelt key of it says
                if any(at[:-1] == r[:-1] and repr(r[-1]) in mistake.message for r in self.replaced):
                    continue  # it misses what was left out here
                if at not in known and not any(_within(at, r) for r in self.replaced):
                    self.found.append(Mistake(_at(mistake, at), *at))
            # From the end, so that the numbers of items before it stay.
            for mistake in sorted(wrong, key=lambda m: [str(p).zfill(9) for p in m.at])[::-1]:
                self._mend(mistake.at)
        return None

    def _in_original(self, at: Location) -> Location:
        if len(at) > 1 and at[0] in LISTS and isinstance(at[1], int):
            numbers = self.kept[str(at[0])]
            if at[1] < len(numbers):
                return (at[0], numbers[at[1]], *at[2:])
        return at

    def _mend(self, at: Location) -> None:
        """Drop or replace what stands at a place."""
        if "checkpoint" in at:  # of half a source nothing can be said
            at = at[: at.index("checkpoint") + 1]
        target: Any = self.data
        for i, part in enumerate(at):
            here = at[: i + 1]
            last = i == len(at) - 1
            inner = target.get(part) if isinstance(target, dict) else None
            if isinstance(target, list):
                if not (isinstance(part, int) and part < len(target)):
                    return
                inner = target[part]
                if last or not isinstance(inner, dict | list):
                    self._drop(here)
                    return
            elif last or not isinstance(inner, dict | list) or self._is_plain_list(here, inner):
                self._replace(target, here)
                return
            target = inner

    def _is_plain_list(self, at: Location, value: Any) -> bool:
        return isinstance(value, list) and at[0] not in LISTS

    def _drop(self, at: Location) -> None:
        """Leave an item of a list out; where none would be left, an example takes its place."""
        target: Any = self.data
        for part in at[:-1]:
            target = target[part]
        if len(at) == 2 and at[0] in LISTS:
            name = str(at[0])
            del self.kept[name][int(at[1])]
            del target[int(at[1])]
            if not target:
                target.append(_valid(Suite, name)[0])
                self.kept[name] = [-1]
                self.replaced.append((name,))
        else:
            del target[int(at[-1])]

    def _replace(self, target: dict[str, Any], at: Location) -> None:
        """Leave an optional key out; give a required one a valid value."""
        key = str(at[-1])
        model = next((m for m in fields_at(at[:-1], self.data) if key in m.model_fields), None)
        if model is None or not model.model_fields[key].is_required():
            self.replaced.append(self._in_original(at))
            if key in target and key != "type":
                del target[key]
            elif len(at) > 1:  # the mapping as a whole is wrong
                self.replaced.append(self._in_original(at[:-1]))
                self._mend(at[:-1])
            return
        if at[0] in LISTS and len(at) > 2:  # an item without what it needs
            self._drop(at[:2])
            return
        target[key] = copy.deepcopy(_valid(model, key))
        if key in LISTS:
            self.kept[key] = [-1] * len(target[key])
        # What is compared with it is compared with an example.
        self.replaced.append(at[:-1] or at)


def _valid(model: Any, key: str) -> Any:
    if key == "schedule":
        return {"type": "one_cycle"}  # fits any number of epochs
    return model.model_fields[key].examples[0]


def _meant(mistake: Mistake, at: Location) -> Location:
    """The key that the sentence takes an unknown one for."""
    return (*at[:-1], mistake.message.partition("did you mean ")[2].strip("'?"))


def _within(at: Location, place: Location) -> bool:
    return at[: len(place)] == place


def _at(mistake: Mistake, at: Location) -> str:
    """The message, with the place in the file where it names it itself."""
    if mistake.message.startswith("unknown key"):
        was, now = (".".join(map(str, p)) for p in (mistake.at, at))
        return mistake.message.replace(repr(was), repr(now), 1)
    return mistake.message


__all__ = ["mistakes"]
