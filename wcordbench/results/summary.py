"""From runs to the numbers of a cell: mean, sample standard deviation, and what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wcordbench.results import evaluations
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run


@dataclass(frozen=True)
class Summary:
    """The seeds of one cell of a table.

    Attributes:
        values: one score a finished seed, in percent.
        wanted: how many seeds the suite asks for.
        undefined: why the method does not exist for this pair ("N/A"), or None.
        failures: reasons of failed seeds.
        seeds: the finished seeds, in the order of ``values``.
        fingerprints: of the images that they were trained and tested on.
        uncommitted: names of the runs whose code had changes that were not committed.
        measured: of the measurement shown, the images and settings that it was made of.
        weights: SHA-256 of the trained weights.
        teachers: SHA-256 of the weights that taught them; empty for a plain training.
        automatic: what ``precision: auto`` meant where they were trained; empty where the
            configuration says the precision.
        arithmetic: what computed them, of all that no configuration says: the kind of device,
            TF32, torch.compile.
    """

    values: tuple[float, ...]
    wanted: int
    undefined: str | None = None
    failures: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    fingerprints: frozenset[str] = frozenset()
    uncommitted: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()
    teachers: frozenset[str] = frozenset()
    automatic: frozenset[str] = frozenset()
    arithmetic: frozenset[str] = frozenset()

    @property
    def by_seed(self) -> dict[int, float]:
        """The scores by seed."""
        return dict(zip(self.seeds, self.values, strict=True))

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n − 1), None below two seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def complete(self) -> bool:
        return len(self.values) == self.wanted


def summarise(
    runs: Iterable[Run], store: Store, score: str = "top1", measurement: str | None = None
) -> Summary:
    """Read the runs of one cell.

    Args:
        runs: one a seed.
        store: where they are.
        score: a key of a result's ``scores``.
        measurement: in their place, the scores of a measurement after the training (see
            :func:`wcordbench.results.evaluations.score`); a run without it is missing.

    Raises:
        UserError: a result is damaged or does not belong to its configuration.
    """
    runs = list(runs)
    values: dict[int, float] = {}
    failures: list[str] = []
    fingerprints: set[str | None] = set()
    uncommitted: set[str] = set()
    measured: set[str] = set()
    weights: set[str | None] = set()
    teachers: set[str | None] = set()
    automatic: set[str | None] = set()
    arithmetic: set[str | None] = set()
    undefined = None
    for run in runs:
        folder = store.folder(run)
        state = folder.state
        if state == "done":
            record = folder.result(best=score == "best_top1")
            value: float | None = record["scores"][score] if measurement is None else None
            if measurement is not None:
                value = evaluations.score(folder, measurement)
                measured |= evaluations.made_of(folder, measurement)
            if value is None:
                continue
            values[run.config["seed"]] = float(value)
            environment = record.get("environment", {})
            fingerprints.add(record.get("dataset_fingerprint"))
            weights.add(record.get("weights_sha256"))
            teachers.add(record.get("teacher_sha256"))
            if run.config["train"]["precision"] == "auto":
                automatic.add(environment.get("precision"))
            arithmetic.add(_arithmetic(environment))
            earlier = record.get("earlier_environments", [])
            if any(e.get("clean") is False for e in (environment, *earlier)):
                uncommitted.add(run.name)
        elif state == "undefined":
            undefined = str(folder.read_json("failure.json")["reason"])
        elif state == "failed":
            failures.append(str(folder.read_json("failure.json")["reason"]))
    return Summary(
        tuple(values.values()), len(runs), undefined, tuple(failures), tuple(values),
        _known(fingerprints), frozenset(uncommitted), frozenset(measured), _known(weights),
        _known(teachers), _known(automatic), _known(arithmetic),
    )  # fmt: skip


def _arithmetic(environment: Mapping[str, Any]) -> str | None:
    """What computed a run, in words; None where its record does not say."""
    device = environment.get("device")
    if device is None:
        return None
    words = [{"cuda": "CUDA", "cpu": "a CPU"}.get(device, str(device))]
    if environment.get("tf32") and environment.get("precision") == "fp32":
        words.append("with TF32")
    mode = environment.get("compile") or "off"
    if mode != "off":
        words.append(f"under --compile {mode}")
    return " ".join(words)


def _known(values: Iterable[str | None]) -> frozenset[str]:
    """What the records say: an old one may say nothing."""
    return frozenset(value for value in values if value is not None)
