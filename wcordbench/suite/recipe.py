"""What a training recipe may add to the protocol: another optimiser, averages, soft labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wcordbench.suite.base import Fraction, Mistake, Strict


class Optimizer(Strict):
    """Which of torch's optimisers takes the steps."""

    type: Literal["sgd", "adamw"] = Field(
        default="sgd",
        description="sgd has momentum and nesterov beside it in train; adamw has neither",
    )
    betas: list[Fraction] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        examples=[[0.9, 0.999]],
        description="adamw's averages of gradients and their squares; 0.9 and 0.999",
    )
    eps: float | None = Field(
        default=None, gt=0, examples=[1e-8], description="adamw's term in the denominator; 1e-8"
    )
    decay_norms_and_biases: bool = Field(
        default=True,
        description="false: weight decay spares norms, biases, and what a timm model spares",
    )

    @model_validator(mode="after")
    def _of_the_type(self) -> Optimizer:
        for key in ("betas", "eps"):
            if self.type != "adamw" and getattr(self, key) is not None:
                raise Mistake("is adamw's; leave it out, or give type: adamw", key)
        return self


class CosineSchedule(Strict):
    """The learning rate falls along half a cosine, by step, to ``final_rate`` at the end."""

    type: Literal["cosine"] = Field("cosine", description="which schedule")
    final_rate: float = Field(default=0.0, ge=0, description="the learning rate at the end")


class Ema(Strict):
    """An exponential moving average of the student's weights, measured beside them."""

    decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.9999, description="share of the average that a step keeps"
    )


#: keys of ``train`` that are left out of a run's configuration where they say nothing
ADDED = (
    "optimizer", "warmup_epochs", "label_smoothing", "clip_norm", "ema", "mixup", "cutmix",
)  # fmt: skip


__all__ = ["ADDED", "CosineSchedule", "Ema", "Optimizer"]
