"""From a suite to its runs: every hyper-parameter resolved, and each run's identity."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wcordbench import registry
from wcordbench.suite.code import code_of
from wcordbench.suite.schema import MethodSpec, MethodTerm, Pair, Suite, Train, merge
from wcordbench.suite.source import Source

#: in place of a digest, of weights that are yet to be fetched
NOT_FETCHED = "not fetched"


@dataclass(frozen=True)
class Run:
    """One training: a dataset, a network, what it learns from, a protocol and a seed.

    Attributes:
        config: everything that changes the result, and nothing else (JSON values only).
            ``teacher`` holds the identity of the teacher's run, or its checkpoint's hash.
        teacher: the teacher's run, where the teacher is trained by the suite.
        checkpoint: path of the weights that are given as a file: the teacher's, or those
            that training begins with.
        memory: GiB that its images may take; None is ``auto``.
        keep: whether streamed training images are kept on disk at the size they are read.
        allow_chance: such a teacher may be no better than chance.
    """

    config: dict[str, Any]
    teacher: Run | None = field(default=None, compare=False)
    checkpoint: str | None = field(default=None, compare=False)
    memory: float | None = field(default=None, compare=False)
    keep: bool = field(default=False, compare=False)
    allow_chance: bool = field(default=False, compare=False)

    @functools.cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical configuration."""
        return digest(self.config)

    @property
    def name(self) -> str:
        """A folder name that a person can read and that cannot collide."""
        c = self.config
        source = f"{c['teacher']['model']}-{c['model']}" if c["teacher"] else c["model"]
        dataset = c["dataset"].get("title") or c["dataset"]["name"]
        dataset = re.sub(r"[^A-Za-z0-9.-]+", "-", dataset).strip("-.") or c["dataset"]["name"]
        parts = [dataset, source, c["method"]["name"], f"s{c['seed']}", self.id[:8]]
        return "_".join(p.replace("/", "-").replace(":", "-") for p in parts)

    def __hash__(self) -> int:
        return hash(self.id)


def digest(config: dict[str, Any]) -> str:
    """The identity of a configuration."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Cell:
    """A run in its place in the table: ``row`` is the method's title, ``column`` the pair.

    ``is_teacher``: the run is the pair's teacher, in the row "Teacher".
    """

    run: Run
    pair: Pair
    method: MethodSpec | None
    seed: int

    @property
    def is_teacher(self) -> bool:
        return self.method is None


def dataset_config(suite: Suite) -> dict[str, Any]:
    """The dataset's part of every run's configuration."""
    config = suite.dataset.config()
    if suite.task is not None:
        config["task"] = suite.task.model_dump(exclude_none=True)
    return config


def _dataset(suite: Suite) -> str:
    """The same as JSON, of which every run gets a copy of its own.

    Resolved once, since a suite has thousands of runs.
    """
    return json.dumps(dataset_config(suite), allow_nan=False)


def protocol(train: Train, two_stage: bool) -> dict[str, Any]:
    """The protocol's part of a configuration."""
    config = train.config()
    if not two_stage:
        del config["first_stage"]  # changes nothing for a method without one
    return config


def _config(
    dataset: str,
    model: str,
    method: str,
    gamma: float,
    terms: list[MethodTerm],
    train: Train,
    seed: int,
    teacher: dict[str, Any] | None,
    view: dict[str, Any] | None,
    metric: str,
    pretrained: bool | str = False,
) -> dict[str, Any]:
    config = {
        "dataset": json.loads(dataset),
        "model": model,
        "teacher": teacher,
        "method": {"name": method, "gamma": gamma, "terms": [t.model_dump() for t in terms]},
        "train": protocol(train, any(registry.get("method", t.name).two_stage for t in terms)),
        "seed": seed,
    }
    # What most suites do not say is left out, so that it does not change their identities.
    if view is not None:
        config["view"] = copy.deepcopy(view)
    if metric == "auc":  # the others are always measured
        config["metric"] = metric
    config |= code_of(config)
    if pretrained:  # true, or a file's SHA-256
        config["pretrained"] = pretrained
    return config


@functools.cache
def file_digest(path: str) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checkpoint(suite: Suite, number: int, key: str, path: str) -> str:
    at = ("pairs", number, "teacher", key)
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise suite.mistake(
            f": {path} does not exist; correct the path or download the file", *at
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise suite.mistake(f": {path!r} cannot be read ({reason})", *at) from None


def _digest_of(suite: Suite, number: int, source: Source) -> str:
    """A given teacher's SHA-256: the suite's own word, or the file's.

    A download need not be there for a table; training refuses a file of another content.
    """
    there = Path(source.file).is_file()
    if source.sha256 is None:
        if source.timm and not there:
            return NOT_FETCHED
        return _checkpoint(suite, number, "checkpoint", source.file)
    if not source.fetched or there:
        found = _checkpoint(suite, number, "checkpoint", source.file)
        if found != source.sha256:
            raise suite.mistake(
                f": {source.file} has the SHA-256 {found}, the suite gives {source.sha256};"
                " delete the file and fetch it again, or correct the suite",
                "pairs", number, "teacher", "checkpoint", "sha256",
            )  # fmt: skip
    return source.sha256


def teacher_run(suite: Suite, pair: Pair) -> Run | None:
    """The run that trains a pair's teacher; None where a checkpoint is given."""
    if pair.teacher.checkpoint is not None:
        return None
    train = merge(suite.train, pair.teacher.train)
    _check_whole(suite, train)
    begin, path = pair.teacher.pretrained, None
    if isinstance(begin, str):
        path = begin
        begin = _checkpoint(suite, suite.pairs.index(pair), "pretrained", path)
    return Run(
        _config(
            _dataset(suite),
            pair.teacher.model,
            "student",
            1.0,
            [],
            train,
            pair.teacher.seed,
            None,
            suite.views.teacher.config(suite.dataset),
            suite.metric,
            begin,
        ),
        checkpoint=path,
        memory=suite.dataset.memory,
        keep=suite.dataset.keeps_all,
    )


def _check_whole(suite: Suite, train: Train) -> None:
    """Refuse to cut from whole images what has none."""
    if not any(each.get("whole") for each in train.augment.transforms):
        return
    at = ("train", "augment", "transforms")
    if train.augment.crop_padding:
        raise suite.mistake(
            " cuts from whole images, and crop_padding comes before it; give crop_padding: 0", *at
        )
    if not registry.get("dataset", suite.dataset.name).meta.get("files"):
        raise suite.mistake(
            f" cuts from whole images, and {suite.dataset.name!r} is no folder of images; leave"
            " 'whole' out",
            *at,
        )
    if suite.dataset.cache is not None:
        raise suite.mistake(
            " cuts from whole images, and dataset.cache keeps squares of them; leave one of them"
            " out",
            *at,
        )


def check_known(suite: Suite, cells: list[Cell]) -> None:
    """Refuse cells that are taught by weights of no known content.

    Args:
        suite: whose cells.
        cells: some of them.

    Raises:
        UserError: a library's weights are yet to be fetched, and the suite gives no digest.
    """
    for cell in cells:
        if (cell.run.config["teacher"] or {}).get("checkpoint") == NOT_FETCHED:
            raise suite.mistake(
                f": {cell.run.checkpoint} is yet to be downloaded; get it with wcordbench fetch, or"
                " give its sha256",
                "pairs", suite.pairs.index(cell.pair), "teacher", "checkpoint",
            )  # fmt: skip


def expand(suite: Suite, unfetched: bool = False) -> list[Cell]:
    """Every run of a suite in its place in the table, teachers first, in the order of the file.

    The same run can stand in several cells: a teacher in each of its pairs, a plain
    student under each of its teachers.

    Args:
        suite: any.
        unfetched: whether weights of timm's may be missing and of no known content: such runs
            have identities that no stored run has.

    Raises:
        UserError: a teacher's file cannot be read, or is not the suite's.
    """
    teachers = {pair.name: teacher_run(suite, pair) for pair in suite.pairs}
    cells = [
        Cell(run, pair, None, pair.teacher.seed)
        for pair in suite.pairs
        if (run := teachers[pair.name]) is not None
    ]
    dataset, keep = _dataset(suite), suite.dataset.keeps_all
    view, privileged = (v.config(suite.dataset) for v in (suite.views.student, suite.views.teacher))
    resolved = {method.title: method.terms() for method in suite.methods}
    for number, pair in enumerate(suite.pairs):
        run, given = teachers[pair.name], pair.teacher.checkpoint
        source: dict[str, Any] = {"model": pair.teacher.model}
        if privileged is not None:
            source["view"] = privileged
        if run is not None:
            source["run"] = run.id
        elif given is not None:
            source["checkpoint"] = _digest_of(suite, number, given)
        for method in suite.methods:
            spec = method.on(pair)
            terms = resolved[spec.title] if spec is method else spec.terms()
            train = merge(suite.train, *pair.overrides(method))
            _check_whole(suite, train)
            for seed in suite.seeds:
                config = _config(
                    dataset,
                    pair.student,
                    method.name,
                    spec.cross_entropy(),
                    terms,
                    train,
                    seed,
                    source if terms else None,
                    view,
                    suite.metric,
                )
                cells.append(
                    Cell(
                        Run(
                            config,
                            run if terms else None,
                            given.file if given else None,
                            suite.dataset.memory,
                            keep,
                            pair.teacher.allow_chance,
                        ),
                        pair,
                        method,
                        seed,
                    )
                )
    if not unfetched:
        check_known(suite, cells)
    return cells
