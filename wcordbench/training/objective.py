"""The weighted sum that a student minimises."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, Method, Setup
from wcordbench.suite.schema import MethodSpec, located, phrase


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
            entry = registry.get("method", term["name"])
            self.terms.append(entry.load()(setup, **entry.arguments(term["options"])))

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


def objective(
    name: str, student: nn.Module, teacher: nn.Module, images: Tensor, labels: Tensor, **keys: Any
) -> Objective:
    """A method's whole objective for two networks of a user's own, to call in any loop.

    Args:
        name: a method as a suite names it: ``crd``, ``crd+kd``.
        student, teacher: modules that map images to :class:`Features`.
        images: a few images ``(B, C, H, W)``, which the shapes are read from.
        labels: class of every training image, ``(N,)`` int64, from 0 to K − 1.
        keys: the method's options and weights, as in a suite (``gamma``, ``alpha``, ``beta``).

    Returns:
        A module: ``objective(student(x), teacher(x), Batch(labels, indices))`` is the loss. Its
        parameters join the student's optimiser; its draws come from its own generator, see
        ``manual_seed``. AB, FSP and FT have a ``first_stage_loss`` to minimise before.

    Raises:
        UserError: no such method or option, or the method is undefined for these networks.
    """
    try:
        spec = MethodSpec(name=name, **keys)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(located(phrase(dict(first)), first["loc"])) from None
    modes = [(net, net.training) for net in (student, teacher)]
    with torch.no_grad():
        shapes = [net.eval()(images).shapes() for net, _ in modes]
    for net, training in modes:
        net.train(training)
    setup = Setup(shapes[0], shapes[1], shapes[0].logits, labels)
    config = {"gamma": spec.cross_entropy(), "terms": [t.model_dump() for t in spec.terms()]}
    reason = undefined(config, setup)
    if reason:
        raise UserError(f"method {name!r} is undefined for these networks: {reason}")
    return Objective(config, setup)


def undefined(config: dict[str, Any], setup: Setup) -> str | None:
    """Why a method is undefined for a pair, or None."""
    for term in config["terms"]:
        reason: str | None = registry.get("method", term["name"]).load().unsupported(setup)
        if reason:
            return reason
    return None
