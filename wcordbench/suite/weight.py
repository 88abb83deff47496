"""How a method's weight changes over the epochs, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from wcordbench.suite.base import Mistake, PositiveInt, Strict, show


class Warmup(Strict):
    """A linear rise over the first epochs: min(e / epochs, 1)."""

    epochs: float = Field(
        ge=1,
        description="until the full weight",
        examples=[20],
        json_schema_extra={"unit": "epochs"},
    )


class Cosine(Strict):
    """A fall to 0 along half a cosine, from the end of epoch ``after`` to the last."""

    after: int = Field(
        ge=0,
        description="how long the full weight stays",
        examples=[150],
        json_schema_extra={"unit": "epochs"},
    )


class Steps(Strict):
    """One factor until each of some epochs, and one from the last of them on."""

    until: list[PositiveInt] = Field(
        min_length=1,
        description="the first epochs of the next factors, ascending, counted from 1",
        examples=[[10, 20, 180, 210]],
        json_schema_extra={"unit": "epochs"},
    )
    factors: list[Annotated[float, Field(ge=0)]] = Field(
        description="what the weight is multiplied by, one more than 'until'",
        examples=[[0.1, 0.5, 1, 0.5, 0.1]],
    )

    @model_validator(mode="after")
    def _fit(self) -> Steps:
        if self.until != sorted(set(self.until)):
            raise Mistake("must ascend, each epoch once", "until")
        if len(self.factors) != len(self.until) + 1:
            raise Mistake(f"must be {len(self.until) + 1}, one more than 'until'", "factors")
        return self


class WeightSchedule(Strict):
    """How a weight changes over the epochs: one of the three keys."""

    warmup: Warmup | None = Field(None, description="it rises linearly", examples=[{"epochs": 20}])
    cosine: Cosine | None = Field(
        None, description="it falls along half a cosine", examples=[{"after": 150}]
    )
    steps: Steps | None = Field(
        None,
        description="it has one factor after another",
        examples=[{"until": [10, 20], "factors": [0.1, 0.5, 1]}],
    )

    @model_validator(mode="after")
    def _one(self) -> WeightSchedule:
        if len(self.model_fields_set) > 1:
            raise Mistake(f"has {' and '.join(sorted(self.model_fields_set))}; give one of them")
        return self

    def config(self) -> dict[str, Any] | None:
        """As a run's configuration has it; None where the weight is constant."""
        return self.model_dump(exclude_none=True) or None


def _word(value: Any) -> Any:
    if value == "constant":
        return {}
    if not isinstance(value, dict | WeightSchedule) or value == {}:
        raise Mistake(
            f"must be 'constant', or a mapping of warmup, cosine or steps, not {show(value)}"
        )
    return value


Schedule = Annotated[
    WeightSchedule,
    BeforeValidator(_word, json_schema_input_type=WeightSchedule | Literal["constant"]),
]

__all__ = ["Schedule", "WeightSchedule"]
