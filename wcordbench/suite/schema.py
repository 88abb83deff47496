"""What a suite may say, as pydantic models.

Every number of a protocol stands here once with its meaning; a suite file gives the values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from wcordbench import registry

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]


class Strict(BaseModel):
    """Unknown keys are errors, and so are values of another type ("5" is not 5)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StepSchedule(Strict):
    """The learning rate is multiplied by ``factor`` at the start of each milestone epoch."""

    type: Literal["step"] = "step"
    milestones: list[PositiveInt] = Field(description="epochs, ascending")
    factor: float = Field(0.1, gt=0, le=1)

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise ValueError("milestones must ascend")
        return value


class OneCycleSchedule(Strict):
    """Linear rise from 0 to the learning rate over ``warmup``, then linear to 0, by step."""

    type: Literal["one_cycle"] = "one_cycle"
    warmup: float = Field(0.25, ge=0, lt=1, description="fraction of all steps")


class Augment(Strict):
    """Random crop and flip of the training images."""

    crop_padding: int = Field(4, ge=0, description="pixels of black added on each side")
    flip: bool = Field(True, description="mirror horizontally with probability one half")


class FirstStageProtocol(Strict):
    """The stage that AB, FSP and FT train before the ordinary protocol."""

    epochs: PositiveInt = 30
    learning_rate: float = Field(0.05, gt=0)


class Train(Strict):
    """The training protocol."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: float = Field(gt=0)
    momentum: Fraction = 0.9
    weight_decay: float = Field(5e-4, ge=0)
    nesterov: bool = False
    schedule: StepSchedule | OneCycleSchedule = Field(discriminator="type")
    augment: Augment = Augment()
    precision: Literal["fp32", "bf16"] = "fp32"
    first_stage: FirstStageProtocol = FirstStageProtocol()

    @model_validator(mode="after")
    def _milestones_inside(self) -> Train:
        if isinstance(self.schedule, StepSchedule) and any(
            m >= self.epochs for m in self.schedule.milestones
        ):
            raise ValueError(
                f"schedule.milestones must lie before the last of {self.epochs} epochs"
            )
        return self


def _partial(model: type[BaseModel]) -> type[BaseModel]:
    """The same fields, all optional: what an override may say."""
    fields: dict[str, Any] = {
        name: (
            (field.annotation | None)
            if not field.discriminator
            else Annotated[field.annotation, Field(discriminator=field.discriminator)] | None,  # type: ignore[operator]
            None,
        )
        for name, field in model.model_fields.items()
    }
    return create_model(f"{model.__name__}Override", __base__=Strict, **fields)


TrainOverride: Any = _partial(Train)


def _named(key: str) -> BeforeValidator:
    """Lets ``resnet20`` stand for ``{model: resnet20}``."""
    return BeforeValidator(lambda v: {key: v} if isinstance(v, str) else v)


def _model_name(name: str) -> str:
    if not name.startswith("timm:"):
        registry.get("model", name)
    return name


ModelName = Annotated[str, BeforeValidator(lambda v: _model_name(v) if isinstance(v, str) else v)]


class Teacher(Strict):
    """A teacher: trained as a run of its own, or read from a checkpoint."""

    model: ModelName
    checkpoint: str | None = Field(None, description="path of {'model': state_dict}")
    seed: int = Field(0, ge=0)
    train: TrainOverride = None


class Pair(Strict):
    """One teacher and one student: a column of the table."""

    teacher: Annotated[Teacher, _named("model")]
    student: ModelName
    train: TrainOverride = None

    @property
    def name(self) -> str:
        """``teacher->student``, as ``--pair`` takes it."""
        return f"{self.teacher.model}->{self.student}"


class Dataset(Strict):
    """Images, the size they are used at, and how they are normalised."""

    name: str
    options: dict[str, Any] = {}
    size: PositiveInt | None = Field(
        None, description="pixels; images are averaged down to it once, when loaded"
    )
    mean: list[float] = Field(description="per channel, of values in [0, 1]")
    std: list[Annotated[float, Field(gt=0)]] = Field(description="per channel")

    @model_validator(mode="after")
    def _known(self) -> Dataset:
        entry = registry.get("dataset", self.name)
        _options(entry, self.options)
        channels = entry.meta.get("channels")
        for key in ("mean", "std"):
            n = len(getattr(self, key))
            if channels is not None and n != channels:
                raise ValueError(f"{key} has {n} values, {self.name} has {channels} channels")
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have one value a channel")
        return self


def _options(entry: registry.Entry, given: dict[str, Any]) -> dict[str, Any]:
    """Validate options against the definition's signature and fill in the defaults."""
    model = create_model(f"{entry.name} options", __base__=Strict, **registry.option_model(entry))  # type: ignore[call-overload]
    for key in given:
        if key not in entry.options:
            raise ValueError(
                f"{entry.kind} {entry.name!r} has no option {key!r}"
                f"{registry.nearest(key, entry.options) if entry.options else ''}"
            )
    try:
        return dict(model.model_validate(given).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(p) for p in first["loc"])
        raise ValueError(f"{path}: {first['msg'].lower()}") from None


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

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str
    label: str | None = Field(None, description="the row's name in tables")
    gamma: float | None = Field(None, ge=0, description="weight of cross entropy")
    alpha: float | None = Field(None, ge=0, description="weight of a term added by +")
    beta: float | None = Field(None, ge=0, description="weight of the method's own loss")
    train: TrainOverride = None

    @model_validator(mode="after")
    def _known(self) -> MethodSpec:
        self.terms()
        return self

    def entries(self) -> list[registry.Entry]:
        """The registered methods that the name adds up."""
        parts = self.name.split("+")
        if len(set(parts)) != len(parts):
            raise ValueError(f"method {self.name!r} names a term twice")
        return [registry.get("method", part) for part in parts]

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
                valid = [*MethodSpec.model_fields, *(o for e in entries for o in e.options)]
                raise ValueError(
                    f"method {self.name!r} has no option {key!r}{registry.nearest(key, valid)}"
                )
        terms = []
        for i, (entry, options) in enumerate(zip(entries, given, strict=True)):
            own = self.beta if self.beta is not None else entry.meta.get("beta", 1.0)
            added = self.alpha if self.alpha is not None else 1.0
            terms.append(
                MethodTerm(
                    name=entry.name,
                    weight=float(own if i == 0 else added),
                    options=_options(entry, options),
                )
            )
        return [t for t in terms if t.weight or get_entry_state(t.name)]

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


def get_entry_state(name: str) -> bool:
    """Whether a method matters even at weight 0 (it has a first stage)."""
    return bool(registry.get("method", name).meta.get("two_stage", False))


class Suite(Strict):
    """One table: pairs by methods by seeds, under one protocol."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    title: str = ""
    published: str | None = Field(
        None,
        description="the published table this suite's full schedule reproduces",
    )
    plugins: list[str] = Field([], description="Python files that register more, by path")
    dataset: Annotated[Dataset, _named("name")]
    train: Train
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    pairs: list[Pair] = Field(min_length=1)
    methods: list[Annotated[MethodSpec, _named("name")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        for what, names in (
            ("seeds", [str(s) for s in self.seeds]),
            ("pairs", [p.name for p in self.pairs]),
            ("methods", [m.title for m in self.methods]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                remedy = "; give one of them a label" if what == "methods" else ""
                raise ValueError(f"{what} lists {twice[0]!r} twice{remedy}")
        return self


__all__ = ["Dataset", "MethodSpec", "MethodTerm", "Pair", "Suite", "Teacher", "Train"]
