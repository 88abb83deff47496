"""What a suite may say, as pydantic models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
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
    Mistake,
    Strict,
    located,
    one_line,
    phrase,
    registered,
    resolve_options,
    show,
)
from wcordbench.suite.dataset import Dataset, Task, View, Views
from wcordbench.suite.protocol import Train, TrainOverride, merge
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
    checkpoint: str | None = Field(
        None,
        description="a finished teacher: path of {'model': state_dict}",
        examples=["wrn_40_2.pth"],
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
        if self.pretrained is True and not self.model.startswith("timm:"):
            raise Mistake(
                f"is for timm's models, and {self.model!r} is none; give the path of a"
                " checkpoint, or a model such as timm:resnet18",
                "pretrained",
            )
        return self


class Pair(Strict):
    """One teacher and one student: a column of the table."""

    teacher: Annotated[Teacher, _named("model")] = Field(
        description="a network's name, or a mapping", examples=["resnet56"]
    )
    student: ModelName = Field(description="a network's name", examples=["resnet20"])
    train: TrainOverride = Field(
        None,
        description="what its students' training changes of the protocol",
        examples=[{"epochs": 120}],
    )
    methods: dict[str, TrainOverride] = Field(
        {},
        description="the pair's protocol for one method; also where it is part of a+b",
        examples=[{"ft": {"first_stage": {"learning_rate": 0.01}}}],
    )

    @field_validator("methods")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            try:
                registered("method", name)
            except Mistake as error:
                raise Mistake(error.message, name) from None
        return value

    def overrides(self, method: MethodSpec) -> list[BaseModel | None]:
        """What changes the suite's protocol for a method, the last to speak last.

        The pair's, the method's, then the pair's for that very method.
        """
        own = [self.methods.get(part) for part in method.name.split("+")]
        return [self.train, method.train, *own]

    @property
    def name(self) -> str:
        """``teacher->student``, as ``--pair`` takes it."""
        return f"{self.teacher.model}->{self.student}"


class MethodTerm(Strict):
    """One term of the objective with its weight and every option resolved."""

    name: str
    weight: float
    options: dict[str, Any]


class MethodSpec(BaseModel):
    """A method as a suite names it: ``crd+kd`` or a mapping with options.

    Keys other than the ones below are options of the named methods; for ``a+b`` an option
    goes to the first method that has it.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str = Field(description="a method, or several added by +", examples=["crd+kd"])
    label: str | None = Field(
        None,
        description="the row's name in tables; null: the methods' titles",
        examples=["CRD (weak)"],
    )
    gamma: float | None = Field(
        None,
        ge=0,
        description="weight of cross entropy; null: the method's own, and 1 for a sum",
        examples=[0.1],
    )
    alpha: float | None = Field(
        None, ge=0, description="weight of a term added by +; null: 1", examples=[0.9]
    )
    beta: float | None = Field(
        None,
        ge=0,
        description="weight of the first method's own loss; null: the method's own",
        examples=[0.8],
    )
    train: TrainOverride = Field(
        None, description="what its training changes of the protocol", examples=[{"epochs": 120}]
    )

    @model_validator(mode="after")
    def _known(self) -> MethodSpec:
        terms = self.terms()
        if self.title == "Teacher":
            raise Mistake("is 'Teacher', the row of the teachers; choose another", "label")
        if self.alpha is not None and "+" not in self.name:
            raise Mistake(
                f"weighs a term added by '+', and {self.name!r} adds none; did you mean 'beta'?",
                "alpha",
            )
        if not terms and not self.cross_entropy():
            raise Mistake(f": every weight of {self.name!r} is 0, there is nothing to learn")
        return self

    def entries(self) -> list[registry.Entry]:
        """The registered methods that the name adds up."""
        parts = self.name.split("+")
        if "" in parts:
            raise Mistake(
                f": {self.name!r} lacks a method beside its '+'; write one, as in crd+kd", "name"
            )
        twice = next((p for p in parts if parts.count(p) > 1), None)
        if twice is not None:
            raise Mistake(f": {self.name!r} adds {twice!r} to itself; name it once", "name")
        try:
            return [registered("method", part) for part in parts]
        except Mistake as error:
            raise Mistake(error.message, "name") from None

    def terms(self) -> list[MethodTerm]:
        """The weighted terms; a method whose weight is 0 (the plain student) gives none."""
        entries = self.entries()
        given: list[dict[str, Any]] = [{} for _ in entries]
        for key, value in (self.model_extra or {}).items():
            for entry, options in zip(entries, given, strict=True):
                if key in entry.options:
                    options[key] = value
                    break
            else:
                valid = [*(o for e in entries for o in e.options), *MethodSpec.model_fields]
                hint = registry.nearest(key, valid)
                raise Mistake(f": method {self.name!r} has no such option{hint}", key)
        terms = []
        for i, (entry, options) in enumerate(zip(entries, given, strict=True)):
            own = self.beta if self.beta is not None else entry.meta.get("beta", 1.0)
            usual = entries[0].meta.get("alpha", 1.0)
            added = self.alpha if self.alpha is not None else usual
            terms.append(
                MethodTerm(
                    name=entry.name,
                    weight=float(own if i == 0 else added),
                    options=resolve_options(entry, options),
                )
            )
        # At weight 0 a method still matters if it has a first stage.
        return [t for t, e in zip(terms, entries, strict=True) if t.weight or e.two_stage]

    def cross_entropy(self) -> float:
        """γ: given, or the first method's own when it stands alone, else 1."""
        if self.gamma is not None:
            return self.gamma
        entries = self.entries()
        return float(entries[0].meta.get("gamma", 1.0)) if len(entries) == 1 else 1.0

    @property
    def title(self) -> str:
        """The row's name in tables."""
        return self.label or "+".join(e.meta.get("title", e.name) for e in self.entries())


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


class Suite(Strict):
    """One table: pairs by methods by seeds, under one protocol."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        max_length=100,
        description="of letters, digits, '_' and '-'",
        examples=["cifar100"],
    )
    title: str = Field("", description="what tables are headed by", examples=["CIFAR-100, 2 pairs"])
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
                if isinstance(getattr(pair.teacher, key), str):
                    raise Mistake(
                        ": a file's network may have been trained on the images that"
                        " dataset.holdout keeps from training; leave one of them out",
                        "pairs", i, "teacher", key,
                    )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        for what, names, of, remedy in (
            ("seeds", [str(s) for s in self.seeds], "", "remove one"),
            ("pairs", [p.name for p in self.pairs], "", "remove one"),
            ("methods", [m.title for m in self.methods], "'s row", "give one a label"),
        ):
            for i, name in enumerate(names):
                if name in names[:i]:
                    first = names.index(name)
                    shown = name if what == "seeds" else repr(name)
                    raise Mistake(f": {shown} is {what}.{first}{of} already; {remedy}", what, i)
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
