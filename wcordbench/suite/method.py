"""A method as a suite names it, and the weighted terms that it comes to."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_serializer,
    model_validator,
)

from wcordbench import registry
from wcordbench.suite.base import (
    Label,
    Mistake,
    Strict,
    alike,
    located,
    phrase,
    plain,
    registered,
    resolve_options,
)
from wcordbench.suite.protocol import TrainOverride
from wcordbench.suite.weight import Schedule, WeightSchedule

if TYPE_CHECKING:
    from wcordbench.suite.schema import Pair

#: what a pair may say of a method beside its options
WEIGHTS = ("gamma", "beta", "schedule", "lr_factor")


def title_of(entry: registry.Entry) -> str:
    """A registered method's name in tables."""
    return plain(str(entry.meta.get("title", entry.name)))


def _matched(means: list[set[str]], names: list[str]) -> bool:
    """Whether each part of a label is a name of another of the methods."""
    return any(
        all(name in of for name, of in zip(order, means, strict=True))
        for order in itertools.permutations(names)
    )


class MethodTerm(Strict):
    """One term of the objective with its weight and every option resolved."""

    name: str
    weight: float
    options: dict[str, Any]
    schedule: WeightSchedule | None = None
    lr_factor: float = 1.0

    @model_serializer
    def _config(self) -> dict[str, Any]:
        """As a run's configuration has it: what most terms do not have is left out."""
        config: dict[str, Any] = {
            "name": self.name, "weight": self.weight, "options": self.options
        }  # fmt: skip
        if self.schedule is not None and (schedule := self.schedule.config()):
            config["schedule"] = schedule
        if self.lr_factor != 1:
            config["lr_factor"] = self.lr_factor
        return config


class MethodSpec(BaseModel):
    """A method as a suite names it: ``crd+kd`` or a mapping with options.

    Keys other than the ones below are options of the named methods; for ``a+b`` an option
    goes to the first method that has it.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False)

    name: str = Field(description="a method, or several added by +", examples=["crd+kd"])
    label: Label = Field(
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
    schedule: Schedule | None = Field(
        None,
        description="how beta changes over the epochs; null: the method's own; constant: not at"
        " all",
        examples=[{"warmup": {"epochs": 20}}],
    )
    lr_factor: float | None = Field(
        None,
        gt=0,
        description="on the learning rate of the first method's own parameters; null: the"
        " method's own, else 1",
        examples=[10.0],
    )
    train: TrainOverride = Field(
        None, description="what its training changes of the protocol", examples=[{"epochs": 120}]
    )
    #: what a pair says of each part of the name
    _own: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def on(self, pair: Pair) -> MethodSpec:
        """The method as a pair has it; its row is the same.

        Raises:
            Mistake: an option's value is wrong, or the row gives the same option.
        """
        own = {
            part: options
            for part in self.name.split("+")
            if part in pair.methods and (options := pair.methods[part].options)
        }
        if not own:
            return self
        first, *added = self.name.split("+")
        weights = {k: v for k, v in own.get(first, {}).items() if k in WEIGHTS}
        if added:
            weights.pop("gamma", None)  # it is the method's where it stands alone
        if twice := next((key for key in weights if key in self.model_fields_set), None):
            raise self._given_twice(first, twice)
        try:
            spec = MethodSpec(**{**self.given(), **weights})
        except ValidationError as error:
            problem = error.errors()[0]
            raise Mistake(phrase(dict(problem)), first, "options", *problem["loc"]) from None
        spec._own = {p: {k: v for k, v in o.items() if k not in WEIGHTS} for p, o in own.items()}
        spec.terms()
        return spec

    def _given_twice(self, part: str, key: str) -> Mistake:
        message = f": the row {self.title!r} gives it as well; give it in one place"
        return Mistake(message, part, "options", key)

    def given(self) -> dict[str, Any]:
        """What the suite gives, to make the same method of."""
        fields = [key for key in MethodSpec.model_fields if key in self.model_fields_set]
        return {**(self.model_extra or {}), **{key: getattr(self, key) for key in fields}}

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        known = registry.catalogue("method")
        if isinstance(data, dict) and "name" not in data:
            for key in data:
                if isinstance(key, str) and key.split("+")[0].strip() in known:
                    raise Mistake(
                        f": a method's name is the value of 'name', and its options stand beside"
                        f" it; write {{name: {key}, ...}}"
                    )
        return data

    @model_validator(mode="after")
    def _known(self) -> MethodSpec:
        terms = self.terms()
        self._label_is_its_own()
        if self.alpha is not None and "+" not in self.name:
            raise Mistake(
                f"weighs a term added by '+', and {self.name!r} adds none; did you mean 'beta'?",
                "alpha",
            )
        if not terms and not self.cross_entropy():
            raise Mistake(f": every weight of {self.name!r} is 0, there is nothing to learn")
        return self

    def _label_is_its_own(self) -> None:
        """Refuse a row's name under which everyone looks for another method's numbers."""
        if alike(self.title) == "teacher":
            raise Mistake("is 'Teacher', the row of the teachers; choose another", "label")
        names: dict[str, set[str]] = {}
        for entry in registry.catalogue("method").values():
            for name in (entry.name, title_of(entry)):
                names.setdefault(alike(name), set()).add(entry.name)
        means = [names.get(part.strip(), set()) for part in alike(self.title).split("+")]
        if not all(means):
            return
        own = self.name.split("+")
        if len(means) != len(own) or not _matched(means, own):
            other = "+".join(min(of) for of in means)
            raise Mistake(
                f"is {self.label!r}, the name of the method {other!r}, and the row is of"
                f" {self.name!r}; choose another",
                "label",
            )
        if self.label is None and any(len(of) > 1 for of in means):
            raise Mistake(f": {self.title!r} is another method's title too; give the row a label")

    def entries(self) -> list[registry.Entry]:
        """The registered methods that the name adds up."""
        parts = self.name.split("+")
        if "" in parts:
            raise Mistake(
                f": {self.name!r} lacks a method beside its '+'; write one, as in crd+kd", "name"
            )
        tight = "+".join(part.strip() for part in parts)
        if tight != self.name:
            raise Mistake(f"is {self.name!r}; write it without spaces: {tight!r}", "name")
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
                if key == "options":
                    raise Mistake(": a method's options stand beside its name, not below it", key)
                valid = [*(o for e in entries for o in e.options), *MethodSpec.model_fields]
                hint = registry.nearest(key, valid)
                raise Mistake(f": method {self.name!r} has no such option{hint}", key)
        terms = []
        for i, (entry, options) in enumerate(zip(entries, given, strict=True)):
            own = self.beta if self.beta is not None else entry.meta.get("beta", 1.0)
            usual = entries[0].meta.get("alpha", 1.0)
            added = self.alpha if self.alpha is not None else usual
            schedule = self.schedule if i == 0 else None
            if schedule is None and "schedule" in entry.meta:
                schedule = _declared(entry)
            factor = self.lr_factor if i == 0 else None
            paired = self._own.get(entry.name, {})
            if twice := next((key for key in paired if key in options), None):
                raise self._given_twice(entry.name, twice)
            try:
                resolved = resolve_options(entry, {**options, **paired})
            except Mistake as error:
                if error.at and error.at[0] in paired:
                    error.at = (entry.name, "options", *error.at)
                raise
            terms.append(
                MethodTerm(
                    name=entry.name,
                    weight=float(own if i == 0 else added),
                    options=resolved,
                    schedule=schedule,
                    lr_factor=factor or entry.meta.get("lr_factor", 1.0),
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
        return self.label or "+".join(map(title_of, self.entries()))


def _declared(entry: registry.Entry) -> WeightSchedule:
    try:
        return WeightSchedule.model_validate(entry.meta["schedule"])
    except ValidationError as error:
        problem = error.errors()[0]
        what = located(phrase(dict(problem)), ("schedule", *problem["loc"]))
        raise Mistake(f": {entry.file} registers {entry.name!r}: {what}", "name") from None


__all__ = ["WEIGHTS", "MethodSpec", "MethodTerm"]
