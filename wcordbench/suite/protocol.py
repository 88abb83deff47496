"""The training protocol as pydantic models: every number of it, with its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model, field_validator, model_validator

from wcordbench.suite.base import Fraction, Mistake, PositiveInt, Strict, in_unit
from wcordbench.suite.recipe import ADDED, CosineSchedule, Ema, Optimizer
from wcordbench.suite.transforms import in_order, transform


class StepSchedule(Strict):
    """The learning rate is multiplied by ``factor`` at the start of each milestone epoch."""

    type: Literal["step"] = Field("step", description="which schedule")
    milestones: Annotated[list[PositiveInt], in_unit("epochs", [150, 180, 210])] = Field(
        description="the epochs at whose start the rate falls, ascending"
    )
    factor: float = Field(0.1, gt=0, le=1, description="what the rate is multiplied by")

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise Mistake("must ascend, each milestone once")
        return value


class OneCycleSchedule(Strict):
    """Linear rise from 0 to the learning rate over ``warmup``, then linear to 0, by step."""

    type: Literal["one_cycle"] = Field("one_cycle", description="which schedule")
    warmup: Annotated[float, in_unit("fraction of all steps")] = Field(
        0.25, ge=0, lt=1, description="how long the rate rises"
    )


class Augment(Strict):
    """Random crop and flip of the training images."""

    crop_padding: Annotated[int, in_unit("pixels")] = Field(
        default=4, ge=0, description="black added on each side before a random crop"
    )
    flip: bool = Field(default=True, description="mirror horizontally with probability one half")
    transforms: list[Any] = Field(
        default=[],
        examples=[["rand_augment", {"name": "random_erasing", "p": 0.25}]],
        description="torchvision's transforms by name, after crop and flip, in order; pixels are"
        " whole numbers from 0 to 255, which random_erasing's value and random_solarize's threshold"
        " are as well",
    )

    @field_validator("transforms")
    @classmethod
    def _known(cls, value: list[Any]) -> list[Any]:
        return [transform(each) for each in value]

    @model_validator(mode="after")
    def _in_order(self) -> Augment:
        try:
            in_order(self.transforms)
        except Mistake as error:
            raise Mistake(error.message, "transforms") from None
        return self


class FirstStageProtocol(Strict):
    """The stage that AB, FSP and FT train before the ordinary protocol."""

    epochs: Annotated[PositiveInt, in_unit("epochs")] = Field(default=30, description="its length")
    learning_rate: float = Field(default=0.05, gt=0, description="constant")


class Train(Strict):
    """The training protocol."""

    epochs: Annotated[PositiveInt, in_unit("epochs", 240)] = Field(
        description="passes over the training images"
    )
    batch_size: Annotated[PositiveInt, in_unit("images", 64)] = Field(
        description="images a step; an incomplete last batch is trained on as well"
    )
    learning_rate: float = Field(gt=0, description="the highest of the schedule", examples=[0.05])
    momentum: Fraction = Field(0.9, description="of stochastic gradient descent")
    weight_decay: float = Field(5e-4, ge=0, description="L2 penalty of every parameter")
    nesterov: bool = Field(False, description="Nesterov's momentum")
    schedule: StepSchedule | OneCycleSchedule | CosineSchedule = Field(
        discriminator="type",
        description="the learning rate over time",
        examples=[{"type": "step", "milestones": [150, 180, 210]}],
    )
    augment: Augment = Field(Augment(), description="random changes of the training images")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="auto: bf16 where the device multiplies it, else fp32"
    )
    first_stage: FirstStageProtocol = Field(
        FirstStageProtocol(), description="of the methods that have one"
    )
    optimizer: Optimizer = Field(Optimizer(), description="what takes the steps")
    warmup_epochs: Annotated[float, in_unit("epochs")] = Field(
        0.0, ge=0, description="the rate first rises linearly to where the schedule begins"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    clip_norm: float | None = Field(
        None,
        gt=0,
        examples=[1.0],
        description="the gradient's largest norm, over all that is trained, a method's own"
        " parameters included",
    )
    ema: Ema | None = Field(
        None, examples=[{"decay": 0.9999}], description="a moving average of the student's weights"
    )
    mixup: float = Field(
        0.0, ge=0, description="alpha of mixup: batches are mixed with themselves; 0 for none"
    )
    cutmix: float = Field(
        0.0, ge=0, description="alpha of cutmix; with mixup, each batch has one of them"
    )

    def config(self) -> dict[str, Any]:
        """What of it changes a result, as a run's configuration has it."""
        config = self.model_dump()
        for key in ADDED:  # what older suites could not say does not change their identities
            if getattr(self, key) == type(self).model_fields[key].default:
                del config[key]
        if not self.augment.transforms:
            del config["augment"]["transforms"]
        if self.optimizer.type == "adamw":
            del config["momentum"], config["nesterov"]
        if "optimizer" in config:
            config["optimizer"] = self.optimizer.model_dump(mode="json", exclude_none=True)
        return config

    @model_validator(mode="after")
    def _warmup_inside(self) -> Train:
        if self.warmup_epochs >= self.epochs:
            raise Mistake(
                f"is {self.warmup_epochs:g}, and training ends after {self.epochs}"
                f" epoch{'s' * (self.epochs > 1)}; change it or train.epochs",
                "warmup_epochs",
            )
        if self.warmup_epochs and isinstance(self.schedule, OneCycleSchedule):
            raise Mistake(
                "one_cycle has a warm-up of its own; give schedule.warmup, a fraction of all"
                " steps, or another schedule",
                "warmup_epochs",
            )
        return self

    @model_validator(mode="after")
    def _falls(self) -> Train:
        if isinstance(self.schedule, CosineSchedule):
            final = self.schedule.final_rate
            if final > self.learning_rate:
                raise Mistake(
                    f"is {final:g}, above the learning rate that it falls from,"
                    f" {self.learning_rate:g}; give at most that",
                    "schedule",
                    "final_rate",
                )
        return self

    @model_validator(mode="after")
    def _momentum_is_sgds(self) -> Train:
        if self.optimizer.type == "adamw":
            for key in ("momentum", "nesterov"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise Mistake("is of sgd, and the optimizer is adamw; leave it out", key)
        return self

    @model_validator(mode="after")
    def _milestones_inside(self) -> Train:
        if isinstance(self.schedule, StepSchedule):
            for milestone in self.schedule.milestones:
                if milestone >= self.epochs:
                    raise Mistake(
                        f"has {milestone}, but training ends after {self.epochs}"
                        f" epoch{'s' * (self.epochs > 1)}; change it or train.epochs, or take a"
                        " schedule without milestones: --set 'train.schedule={type: one_cycle}'",
                        "schedule",
                        "milestones",
                    )
        return self

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Train:
        if self.nesterov and not self.momentum:
            raise Mistake("needs a momentum above 0", "nesterov")
        return self


def _partial(model: type[BaseModel]) -> type[BaseModel]:
    """The same fields, all optional: what an override may say."""
    fields: dict[str, Any] = {
        name: (
            Annotated[
                (
                    field.annotation,
                    *field.metadata,
                    Field(discriminator=field.discriminator, description=field.description),
                )
            ],
            None,
        )
        for name, field in model.model_fields.items()
    }
    return create_model(f"{model.__name__}Override", __base__=Strict, **fields)


TrainOverride: Any = _partial(Train)
#: what a pair says of one method: of its protocol, and of the method itself
MethodOverride: Any = create_model(
    "MethodOverride",
    __base__=TrainOverride,
    options=(
        dict[str, Any] | None,
        Field(None, description="the method's options, gamma, beta, schedule and lr_factor"),
    ),
)


def merge(train: Train, *overrides: BaseModel | None) -> Train:
    """A protocol with overrides applied in turn.

    A schedule and an optimizer are replaced as a whole; of ``augment`` and
    ``first_stage`` only the keys that an override names are.

    Raises:
        ValidationError: the outcome is no valid protocol.
    """
    if not any(overrides):
        return train
    values = train.model_dump()
    for override in overrides:
        if override is not None:
            for key, value in override.model_dump(exclude_unset=True, exclude={"options"}).items():
                partial = isinstance(value, dict) and isinstance(values[key], dict)
                whole = not partial or key in ("schedule", "optimizer")
                values[key] = value if whole else {**values[key], **value}
    return Train.model_validate(values)
