"""The types of a definition's options, with their ranges; known without importing torch.

A range is part of the annotation, and ``validate`` refuses what lies outside of it::

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 4.0,
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        layers: Annotated[tuple[NonNegativeInt, ...], MinLen(1)] = (1, 2),
    ) -> None: ...

Everything that this module exports can stand in an annotation, beside the built-in types, ``None``,
``Literal``, ``Any`` and ``Path``. A suite gives a tuple as a list.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen, MinLen, MultipleOf

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
#: from 0 to 1, both included
Fraction = Annotated[float, Interval(ge=0, le=1)]
#: what logits or cosines are divided by; below it their softmax is that of rounding errors
Temperature = Annotated[float, Ge(0.001)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]

__all__ = [
    "Annotated", "Fraction", "Ge", "Gt", "Interval", "Le", "Lt", "MaxLen", "MinLen", "MultipleOf",
    "NonNegative", "NonNegativeInt", "Positive", "PositiveInt", "Temperature",
]  # fmt: skip
