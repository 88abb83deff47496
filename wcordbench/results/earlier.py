"""Stored runs of an earlier text of a plugin: not the suite's, and somebody may miss them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

from wcordbench.errors import UserError
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run, digest


def of_other_code(runs: Iterable[Run], store: Store) -> str | None:
    """What to say where runs are missing that are there, but of other code; None where none are.

    A run's identity holds the text of the plugins that it is made of: after a change of a single
    comment all of them are to be trained again.

    Args:
        runs: of a suite.
        store: where they may be.
    """
    missing = {
        _without(run.config): run
        for run in runs
        if "plugins" in run.config and store.folder(run).state == "missing"
    }
    if not missing:
        return None
    found: Counter[str] = Counter()
    for folder in store.folders():
        try:
            config = folder.read_json("run.json")["config"]
            known = missing.get(_without(config)) if folder.state == "done" else None
        except (UserError, AttributeError, KeyError, TypeError):
            continue  # damaged: wcordbench verify says so
        if known is None:
            continue
        theirs = config.get("plugins", {})
        found.update(what for what, text in known.config["plugins"].items()
                     if theirs.get(what) != text)  # fmt: skip
    if not found:
        return None
    of = ", ".join(f"the {what} ({n} run{'s' * (n != 1)})" for what, n in sorted(found.items()))
    return (
        f"Finished runs of an earlier text of {of} are stored and do not count: a plugin's text,"
        " its comments as well, is part of a run's identity."
    )


def _without(config: dict[str, Any]) -> str:
    """A configuration's digest without its code, and without its teacher's."""
    config = copy.deepcopy(config)
    config.pop("plugins", None)
    if config.get("teacher"):
        config["teacher"].pop("run", None)
    return digest(config)


__all__ = ["of_other_code"]
