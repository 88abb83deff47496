"""Distillation methods: one file each, registered by name (see :mod:`wcordbench.registry`)."""

from wcordbench.methods.base import (
    Batch,
    Features,
    FeatureShapes,
    FirstStage,
    Method,
    SecondView,
    Setup,
)

__all__ = ["Batch", "FeatureShapes", "Features", "FirstStage", "Method", "SecondView", "Setup"]
