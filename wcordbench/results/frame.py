"""Results as one tidy table: a row a run, a column a parameter or score."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.runs import digest

if TYPE_CHECKING:
    import pandas as pd

#: the columns that come first, where there are such
_FIRST = [
    "run", "state", "kind", "reason", "configuration", "dataset.name", "teacher.model", "model",
    "method.name", "seed", "scores.top1", "scores.top5", "scores.auc", "scores.best_top1",
]  # fmt: skip
#: of a result, what stands elsewhere in the row or says nothing about it
_LEFT_OUT = {"config", "format", "images"}


def load(results: str | Path | Store = "results") -> pd.DataFrame:
    """Every run of a results folder as a pandas DataFrame, one row a run.

    Columns:

    - ``run``: the folder's name; ``state``: done, failed, undefined ("N/A"), begun, missing (the
      folder has no configuration yet) or damaged; ``kind`` and ``reason`` of the last two and of
      failures.
    - ``configuration``: a hash of everything that changes a result but the seed; the rows of one
      value are the seeds of one cell.
    - The configuration with dots: ``train.learning_rate``. Terms of a method go by their name:
      ``method.terms.wcord.options.lambda1``. Lists are JSON text.
    - ``scores.*`` after the last epoch in percent (``scores.best_top1`` is the best epoch on the
      test set: not to be mixed with the others), and the provenance: ``environment.*``, checksums,
      ``started`` and ``ended`` (UTC), ``seconds``.

    A damaged folder is a row, since one file must not hide a
    thousand; ``frame[frame.state == "done"]`` is what tables are made of.

    Args:
        results: the results folder.

    Raises:
        UserError: it does not exist.
    """
    import pandas as pd

    store = results if isinstance(results, Store) else Store(results)
    if not store.root.is_dir():
        raise UserError(
            f"results folder {store.root} does not exist; run a suite first, or name another folder"
        )
    records = [_record(folder) for folder in store.folders()]
    names = {name for record in records for name in record}
    # A plain student has no teacher: the others' columns say so.
    parents = {name[:i] for name in names for i, c in enumerate(name) if c == "."}
    first = [name for name in _FIRST if name in names or "." not in name]
    columns = [*first, *sorted(names - parents - set(first))]
    frame = pd.DataFrame({c: _column([r.get(c) for r in records]) for c in columns})
    for time in ("started", "ended"):
        if time in frame:
            frame[time] = pd.to_datetime(frame[time], unit="s", utc=True)
    return frame


def _column(values: list[Any]) -> pd.Series[Any]:
    """A column whose type does not depend on what is missing: 4.0 stays a fraction."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float} and float in kinds:
        return pd.Series(values, dtype="float64")
    for kind, name in ((bool, "boolean"), (int, "Int64")):
        if kinds == {kind}:
            return pd.Series(values, dtype=name)
    return pd.Series([None if v is None else str(v) for v in values], dtype="string")


def _record(folder: RunFolder) -> dict[str, Any]:
    record: dict[str, Any] = {"run": folder.path.name}
    try:
        record["state"] = folder.state
        if record["state"] != "missing":
            done = record["state"] == "done"
            result = folder.result() if done else folder.read_json("run.json")
            config = result["config"]
            record["configuration"] = digest({k: v for k, v in config.items() if k != "seed"})
            record |= _flat(_by_name(config))
            if done:
                record |= _flat({k: v for k, v in result.items() if k not in _LEFT_OUT})
        if record["state"] in ("failed", "undefined"):
            failure = folder.failure()
            record |= {"kind": failure["kind"], "reason": failure["reason"]}
    except (UserError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, UserError) else "run.json is not a configuration"
        return {"run": record["run"], "state": "damaged", "reason": why}
    return record


def _by_name(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose method's terms are a mapping: a sum's order is no parameter."""
    method = config["method"]
    terms = {t["name"]: {k: v for k, v in t.items() if k != "name"} for t in method["terms"]}
    return {**config, "method": {**method, "terms": terms}}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return dict(_leaves(value, prefix))


def _leaves(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{prefix}{key}.")
        else:
            yield prefix + key, json.dumps(inner) if isinstance(inner, list) else inner


__all__ = ["load"]
