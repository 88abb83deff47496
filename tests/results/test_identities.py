"""Stored runs keep their identities: what the shipped suites expand to is what is stored."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.runs import digest

ROOT = Path(__file__).parents[2]


def test_every_stored_run_has_the_identity_of_its_configuration() -> None:
    for folder in Store(ROOT / "results").folders():
        record = json.loads((folder.path / "run.json").read_bytes())
        run = Run(record["config"])
        assert (run.id, run.name) == (record["id"], folder.path.name)
        assert digest(json.loads(json.dumps(record["config"]))) == record["id"]


def test_every_stored_run_is_one_of_a_shipped_suite() -> None:
    """A change of the schema or of a default that moved an identity would orphan it."""
    stored = {folder.path.name for folder in Store(ROOT / "results").folders()}
    expanded: Counter[str] = Counter()
    for path in sorted((ROOT / "suites").glob("*.yaml")):
        suite = load_suite(path)
        if any(pair.teacher.checkpoint for pair in suite.pairs):  # a file that is not shipped
            continue
        expanded.update({cell.run.name for cell in expand(suite)})
    assert stored and not stored - set(expanded), sorted(stored - set(expanded))
