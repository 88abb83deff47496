"""The weighted sum that a student minimises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wcordbench import registry
from wcordbench.methods.base import Batch, Features, Method, Setup


class Objective(nn.Module):
    """γ · cross entropy + Σ weight · term.

    Args:
        config: the ``method`` part of a run's configuration: ``gamma`` and ``terms``, each
            with ``name``, ``weight`` and ``options``.
        setup: what the terms are built for; may be None where there are no terms.
    """

    def __init__(self, config: dict[str, Any], setup: Setup | None) -> None:
        super().__init__()
        self.gamma: float = config["gamma"]
        self.weights: list[float] = [t["weight"] for t in config["terms"]]
        self.terms = nn.ModuleList()
        for term in config["terms"]:
            if setup is None:
                raise ValueError(f"method {term['name']!r} needs a teacher")
            method_class = registry.get("method", term["name"]).load()
            self.terms.append(method_class(setup, **term["options"]))

    @property
    def methods(self) -> list[Method]:
        """The terms' methods, typed."""
        return [m for m in self.terms if isinstance(m, Method)]

    def manual_seed(self, seed: int) -> None:
        """Seed every term's own draws."""
        for method in self.methods:
            method.manual_seed(seed)

    def forward(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        loss = self.gamma * F.cross_entropy(student.logits.float(), batch.labels)
        for weight, method in zip(self.weights, self.terms, strict=True):
            loss = loss + weight * method(student, teacher, batch)
        return loss

    def first_stage_loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The sum of the first-stage losses of the terms that have one, a scalar."""
        losses = [
            m.first_stage_loss(student, teacher, batch) for m in self.methods if m.first_stage
        ]
        return torch.stack(losses).sum()


def undefined(config: dict[str, Any], setup: Setup) -> str | None:
    """Why a method is undefined for a pair, or None."""
    for term in config["terms"]:
        reason: str | None = registry.get("method", term["name"]).load().unsupported(setup)
        if reason:
            return reason
    return None
