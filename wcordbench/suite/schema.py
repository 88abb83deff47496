"""What a suite may say, as pydantic models."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.base import (
    SCHEDULES,
    Label,
    Mistake,
    Strict,
    alike,
    located,
    one_line,
    phrase,
    plain,
    registered,
    show,
)
from wcordbench.suite.dataset import Dataset, Task, View, Views
from wcordbench.suite.method import WEIGHTS, MethodSpec, MethodTerm
from wcordbench.suite.protocol import MethodOverride, Train, TrainOverride, merge
from wcordbench.suite.source import Source as WeightsSource
from wcordbench.suite.source import written
from wcordbench.suite.sweep import Swept, in_file


def _named(key: str) -> BeforeValidator:
    """Lets ``resnet20`` stand for ``{model: resnet20}``."""
    return BeforeValidator(lambda v: {key: v} if isinstance(v, str) else v)


def _model_name(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith("timm:"):
        registered("model", value)
    return value  # timm's own are looked up where networks are built: timm imports torch


ModelName = Annotated[str, BeforeValidator(_model_name)]


def _true_or_path(value: Any) -> Any:
    if not isinstance(value, bool | str) or value == "":
        raise Mistake(f"must be true or the path of a file, not {show(value)}")
    return value


class Teacher(Strict):
    """A teacher: trained as a run of its own, or read from a checkpoint."""

    model: ModelName = Field(
        description="a network of wcordbench list models, timm: and a name of timm's, or a"
        " plugin's",
        examples=["resnet56"],
    )
    checkpoint: Annotated[WeightsSource | None, BeforeValidator(written)] = Field(
        None,
        description="a finished teacher: a file that holds a state_dict, by its path or a mapping;"
        " true for timm's own weights as they are",
        examples=["wrn_40_2.pth"],
    )
    allow_chance: bool = Field(
        False, description="whether a checkpoint that is no better than chance may teach"
    )
    pretrained: Annotated[bool | str, BeforeValidator(_true_or_path)] = Field(
        False,
        description="the weights its training begins with: true for timm's own, or a file's path",
    )
    seed: int = Field(0, ge=0, description="of its training")
    train: TrainOverride = Field(
        None, description="what its training changes of the protocol", examples=[{"epochs": 60}]
    )

    @model_validator(mode="after")
    def _one_source(self) -> Teacher:
        if self.pretrained and self.checkpoint is not None:
            raise Mistake(
                ": training begins with these weights, and 'checkpoint' leaves none to do;"
                " give one of the two",
                "pretrained",
            )
        if self.allow_chance and self.checkpoint is None:
            raise Mistake("is for a teacher that is given as a 'checkpoint'", "allow_chance")
        own = {
            "pretrained": self.pretrained is True,
            "checkpoint": self.checkpoint is not None and self.checkpoint.timm,
        }
        for key, timm in own.items():
            if timm and not self.model.startswith("timm:"):
                raise Mistake(
                    f"is for timm's models, and {self.model!r} is none; give the path of a"
                    " checkpoint, or a model such as timm:resnet18",
                    key,
                )
        return self


class Pair(Strict):
    """One teacher and one student: a column of the table."""

    teacher: Annotated[Teacher, _named("model")] = Field(
        description="a network's name, or a mapping", examples=["resnet56"]
    )
    student: ModelName = Field(description="a network's name", examples=["resnet20"])
    label: Label = Field(
        None,
        description="the column's name in tables; null: the networks' names",
        examples=["a longer trained teacher"],
    )
    train: TrainOverride = Field(
        None,
        description="what its students' training changes of the protocol",
        examples=[{"epochs": 120}],
    )
    methods: dict[str, MethodOverride] = Field(
        {},
        description="the pair's protocol and options for one method; also where it is part of a+b",
        examples=[
            {"ft": {"first_stage": {"learning_rate": 0.01}}, "dkd": {"options": {"nckd": 6.0}}}
        ],
    )

    @field_validator("methods")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, override in value.items():
            try:
                entry = registered("method", name)
            except Mistake as error:
                raise Mistake(error.message, name) from None
            for key in override.options or {} if override is not None else {}:
                if key not in (*entry.options, *WEIGHTS):
                    hint = registry.nearest(key, [*entry.options, *WEIGHTS])
                    raise Mistake(
                        f": method {name!r} has no such option{hint}", name, "options", key
                    )
        return value

    def overrides(self, method: MethodSpec) -> list[BaseModel | None]:
        """What changes the suite's protocol for a method, the last to speak last.

        The pair's, the method's, then the pair's for that very method.
        """
        own = [self.methods.get(part) for part in method.name.split("+")]
        return [self.train, method.train, *own]

    @property
    def networks(self) -> str:
        """``teacher->student``."""
        return f"{self.teacher.model}->{self.student}"

    @property
    def name(self) -> str:
        """The label or ``teacher->student``, as ``--pair`` takes it; no other pair's."""
        return self.label or self.networks

    @property
    def shown(self) -> str:
        """The pair in a sentence or a heading."""
        networks = self.networks.replace("->", " → ")
        return networks if self.label is None else f"{self.label} ({networks})"


@dataclass(frozen=True)
class Source:
    """Where a suite's values come from.

    Attributes:
        file: the YAML file.
        overrides: the text and the path of each ``--set``.
    """

    file: Path
    overrides: list[tuple[str, tuple[str | int, ...]]] = dataclasses.field(default_factory=list)

    def related(self, at: Iterable[str | int]) -> list[str]:
        """The overrides at, above or below a path."""
        parts = [str(p) for p in at]
        return [
            text
            for text, path in self.overrides
            if all(str(a) == b for a, b in zip(path, parts, strict=False)) and parts
        ]

    def blame(self, at: Iterable[str | int]) -> str:
        """The file, and what of ``--set`` can be to blame for a mistake at a path."""
        blamed = self.related(at) or [text for text, _ in self.overrides]
        return " ".join([str(self.file), *(f"with --set {text}" for text in blamed)])


def always_right(classes: int) -> str:
    """Why top-5 accuracy says nothing of so few classes."""
    return f"is top5, which is 100 for any network on {classes} classes; choose top1 or auc"


class Suite(Strict):
    """One table: pairs by methods by seeds, under one protocol."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        max_length=100,
        description="of letters, digits, '_' and '-'",
        examples=["cifar100"],
    )
    title: Annotated[str, AfterValidator(plain)] = Field(
        "", description="what tables are headed by", examples=["CIFAR-100, 2 pairs"]
    )
    plugins: list[str] = Field(
        [],
        description="Python files that register more methods, models or datasets, by path",
        examples=[["l2.py"]],
    )
    dataset: Annotated[Dataset, _named("name")] = Field(
        description="the images", examples=[{"name": "digits", "mean": [0.3058], "std": [0.3764]}]
    )
    task: Task | None = Field(
        None,
        description="classes made of the dataset's; null: its own",
        examples=[{"positive": ["cat"]}],
    )
    views: Views = Field(
        Views(),
        description="what each network sees of an image",
        examples=[{"teacher": {"size": 32}, "student": {"size": 8}}],
    )
    metric: Literal["top1", "top5", "auc"] = Field(
        "top1", description="what the table shows, in percent"
    )
    train: Train = Field(
        description="the training protocol",
        examples=[
            {
                "epochs": 10,
                "batch_size": 64,
                "learning_rate": 0.05,
                "schedule": {"type": "one_cycle"},
            }
        ],
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="every student is trained once with each", examples=[[0, 1, 2]]
    )
    pairs: list[Pair] = Field(
        min_length=1,
        description="the table's columns",
        examples=[[{"teacher": "resnet56", "student": "resnet20"}]],
    )
    methods: list[Annotated[MethodSpec, _named("name")]] = Field(
        min_length=1,
        description="the table's rows, each a name or a mapping",
        examples=[["student", "kd", "crd+kd"]],
    )

    _source: Source | None = PrivateAttr(None)
    #: where each method stands in the file, and what of it is swept
    _swept: list[Swept] = PrivateAttr(default_factory=list)
    #: where each pair stands in the file, where some were left out
    _pairs: list[int] = PrivateAttr(default_factory=list)

    @property
    def swept(self) -> dict[str, Swept]:
        """The methods that come from a sweep, by their title."""
        both = zip(self.methods, self._swept, strict=False)
        return {method.title: swept for method, swept in both if swept.values}

    def mistake(self, message: str, *at: str | int) -> UserError:
        """The error to raise for a mistake that shows only when the suite is used."""
        at = in_file(at, self._swept)
        if len(at) > 1 and at[0] == "pairs" and self._pairs:
            at = (at[0], self._pairs[int(at[1])], *at[2:])
        where = self._source.blame(at) + ": " if self._source else ""
        return UserError(one_line(f"{where}{located(message, at)}"))

    @model_validator(mode="after")
    def _views_fit(self) -> Suite:
        try:
            self.views.fit(len(self.dataset.mean))
        except Mistake as error:
            raise Mistake(error.message, "views", *error.at) from None
        return self

    @model_validator(mode="after")
    def _holdout_fits(self) -> Suite:
        try:
            self.dataset.check_holdout(self.task)
        except Mistake as error:
            raise Mistake(error.message, "dataset", *error.at) from None
        for i, pair in enumerate(self.pairs if self.dataset.holdout else ()):
            for key in ("checkpoint", "pretrained"):
                if getattr(pair.teacher, key):  # a library's weights as well
                    raise Mistake(
                        ": weights from elsewhere may have been trained on the images that"
                        " dataset.holdout keeps from training; leave one of them out",
                        "pairs", i, "teacher", key,
                    )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _task_fits(self) -> Suite:
        known = registered("dataset", self.dataset.name).meta.get("classes")
        if self.task is not None and known is not None:
            for at, member in self.task.members():
                if isinstance(member, int) and not 0 <= member < known:
                    raise Mistake(
                        f": {'.'.join(map(str, at))} is {member}, and {self.dataset.name} numbers"
                        f" its classes from 0 to {known - 1}",
                        "task",
                    )
        return self

    @model_validator(mode="after")
    def _metric_tells(self) -> Suite:
        known = registered("dataset", self.dataset.name).meta.get("classes")
        classes = self.task.classes if self.task is not None else known
        if self.metric == "top5" and classes is not None and classes <= 5:
            raise Mistake(always_right(classes), "metric")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        for what, names, of, remedy in (
            ("seeds", [str(s) for s in self.seeds], "", "remove one"),
            ("pairs", [p.name for p in self.pairs], "", "give one a label"),
            ("methods", [m.title for m in self.methods], "'s row", "give one a label"),
        ):
            seen = [unicodedata.normalize("NFKC", name) for name in names]
            for i, name in enumerate(names):
                if seen[i] in seen[:i]:
                    first = seen.index(seen[i])
                    shown = name if what == "seeds" else repr(name)
                    raise Mistake(f": {shown} is {what}.{first}{of} already; {remedy}", what, i)
        for i, pair in enumerate(self.pairs):
            others = {alike(p.networks) for p in self.pairs} - {alike(pair.networks)}
            if pair.label is not None and alike(pair.label) in others:
                wrong = "names the networks of another pair; choose another"
                raise Mistake(wrong, "pairs", i, "label")
        return self

    @model_validator(mode="after")
    def _overrides_fit(self) -> Suite:
        for i, pair in enumerate(self.pairs):
            self._merged(("pairs", i, "teacher", "train"), pair.teacher.train)
            self._merged(("pairs", i, "train"), pair.train)
            for j, method in enumerate(self.methods):
                self._merged(("methods", j, "train"), pair.train, method.train)
                if pair.methods:
                    self._merged(("pairs", i, "methods"), *pair.overrides(method))
                    try:
                        method.on(pair)
                    except Mistake as error:
                        raise Mistake(error.message, "pairs", i, "methods", *error.at) from None
        return self

    def _merged(self, at: tuple[str | int, ...], *overrides: BaseModel | None) -> None:
        try:
            merge(self.train, *overrides)
        except ValidationError as error:
            first = error.errors()[0]
            mistake = first.get("ctx", {}).get("error")
            below = mistake.at if isinstance(mistake, Mistake) else first["loc"]
            raise Mistake(phrase(dict(first)), *at, *below) from None


__all__ = [
    "SCHEDULES", "Dataset", "MethodSpec", "MethodTerm", "Mistake", "Pair", "Source", "Strict",
    "Suite", "Task", "Teacher", "Train", "View", "Views", "located", "merge", "one_line",
    "phrase", "registered", "show",
]  # fmt: skip
