"""Wasserstein distance of logits (Lv et al., NeurIPS 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from wcordbench import ramp
from wcordbench.methods.base import Batch, Features, Method, Setup, lacking
from wcordbench.methods.logits import exact, is_class, too_few_classes
from wcordbench.options import NonNegative, NonNegativeInt, Positive, PositiveInt, Temperature
from wcordbench.registry import register_method


def class_distances(features: Tensor) -> Tensor:
    """1 − linear CKA between the feature matrices of all pairs of classes, ``(K, K)``.

    With every X_k centred over its rows, CKA(i, j) = ‖X_jᵀ X_i‖² / (‖X_iᵀ X_i‖ ‖X_jᵀ X_j‖),
    Frobenius norms (Lv et al., equation 4).

    Args:
        features: ``(K, R, C)``; row r of one class is paired with row r of every other.

    Returns:
        Zero on the diagonal. A class without variance has distance 1 from all others.
    """
    shared = features.new_zeros(len(features), len(features))
    for i, own in enumerate(features):
        # Centring one side centres both. A row of pairs at a time: all K² products of C by C
        # numbers need not exist together.
        centred = own - own.mean(0)
        shared[i, i:] = (features[i:].mT @ centred).square().sum((1, 2))
    norms = shared.diagonal().sqrt()
    product = norms[:, None] * norms
    distances = 1 - torch.where(product > 0, shared / product, 0.0).triu(1)
    return distances.triu(1) + distances.triu(1).mT


def transport_cost(distances: Tensor, sharpen: float) -> Tensor:
    """max(1 − exp(−k D), 0), or D itself where k is 0 (Lv et al., equation 5), ``(K, K)``."""
    return (1 - torch.exp(-sharpen * distances)).clamp_min(0) if sharpen else distances


def sinkhorn(
    student: Tensor,
    teacher: Tensor,
    left_out: Tensor,
    cost: Tensor,
    regularisation: float,
    iterations: int,
) -> Tensor:
    """The cost of an entropy-regularised plan between distributions, ``(B,)``.

    A class that an image leaves out has scalings of zero throughout, so that one kernel serves
    all images. The gradient passes through all iterations.

    Args:
        student, teacher: probabilities a and b ``(B, K)``, zero where left out.
        left_out: ``(B, K)`` bool.
        cost: M ``(K, K)``.
        regularisation: ε of the kernel exp(−M / ε).
        iterations: how often both scalings are renewed.
    """
    kernel = torch.exp(-cost / regularisation)
    kept = (~left_out).to(cost.dtype)
    u = kept / kept.sum(1, keepdim=True)
    v = u
    for _ in range(iterations):
        v = teacher / (u @ kernel + 1e-8)
        u = student / (v @ kernel.mT + 1e-8)
    return ((u @ (kernel * cost)) * v).sum(1)


@register_method("wkd_l", title="WKD-L", paper="Lv et al., NeurIPS 2024", gamma=1.0, beta=1.0)
class WassersteinLogits(Method):
    """Transport between the classes' probabilities, dearer between classes that differ more.

    With y the true class and a, b the student's and the teacher's softmax at temperature T over
    the K − 1 others::

        L = −mean p_t,y log p_s,y (T = 1)  +  weight · w(e) · mean OT_ε(a, b; M)

    M grows with 1 − CKA of the classes' features in the teacher, which are looked at once,
    before training. Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge
    Distillation, equations 3 to 8; w is the code's.

    Args:
        setup: see :class:`~wcordbench.methods.base.Method`.
        temperature: T, set per pair in the paper.
        transport: the weight, set per pair in the paper.
        sharpen: k of M = 1 − exp(−k D); 0 for D itself.
        regularisation: ε.
        iterations: Sinkhorn's.
        features: what D is of: the map before pooling, every position a row, or the logits.
        cosine_after: the epoch after which w falls to 0 by a cosine; before, it is 1.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        temperature: Temperature = 8.0,
        transport: NonNegative = 600.0,
        sharpen: NonNegative = 1.0,
        regularisation: Positive = 0.05,
        iterations: PositiveInt = 10,
        features: Literal["map", "logits"] = "map",
        cosine_after: NonNegativeInt = 150,
    ) -> None:
        super().__init__(setup)
        self.temperature, self.transport = temperature, transport
        self.sharpen, self.regularisation = sharpen, regularisation
        self.iterations, self.features, self.cosine_after = iterations, features, cosine_after
        #: M without its 1e-8, once prepared
        self.cost: Tensor
        self.register_buffer("cost", torch.full((setup.num_classes,) * 2, math.nan))

    @classmethod
    def unsupported(cls, setup: Setup) -> str | None:
        """Undefined for fewer than two classes, or a class of fewer than two images."""
        fewest = int(torch.bincount(setup.labels, minlength=setup.num_classes).min())
        if fewest < 2:
            return f"it compares classes by two images or more of each, and one has {fewest}"
        return too_few_classes(setup) or lacking(setup, "teacher_map")

    @torch.no_grad()
    def prepare(self, teacher: Iterable[tuple[Features, Tensor]]) -> None:
        """Measure the classes' distances on the first images of each, as many as all have.

        Takes 4 · classes · images · positions · channels bytes on the teacher's device: 3.3 GB
        for 500 images a class of CIFAR-100 and a map of 8 by 8 positions and 256 channels.
        """
        found = self._by_class(teacher)
        with torch.autocast(found.device.type, enabled=False):
            self.cost.copy_(transport_cost(class_distances(found), self.sharpen))

    def _by_class(self, teacher: Iterable[tuple[Features, Tensor]]) -> Tensor:
        """Features ``(K, images · positions, C)`` in float32, in the order of the data."""
        classes = self.setup.num_classes
        each = int(torch.bincount(self.setup.labels, minlength=classes).min())
        found: Tensor | None = None
        seen = torch.zeros(classes, dtype=torch.int64, device=self.cost.device)
        for features, labels in teacher:
            rows = features.logits[:, None]
            if self.features == "map":
                assert features.last_map is not None
                rows = features.last_map.flatten(2).mT
            if found is None:
                # A place more, for the images that are left over: no shape depends on them.
                found = rows.new_zeros(classes, each + 1, *rows.shape[1:], dtype=torch.float32)
            chosen = is_class(features.logits, labels)
            place = seen[labels] + (chosen.cumsum(0) - 1).gather(1, labels[:, None])[:, 0]
            seen = seen + chosen.sum(0)
            found[labels, place.clamp_max(each)] = rows.float()
        assert found is not None
        return found[:, :each].flatten(1, 2)

    def forward(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        """The loss on the logits, a scalar."""
        schedule = {"cosine": {"after": self.cosine_after}}
        weight = self.transport * ramp.factor(schedule, batch.epoch, batch.epochs)
        with torch.autocast(student.logits.device.type, enabled=False):
            target, distance = self.parts(student.logits, teacher.logits.detach(), batch.labels)
            return target + weight * distance

    def parts(self, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The true class's term and the Wasserstein distance of logits ``(B, K)``, scalars."""
        s, t = exact(student), exact(teacher)
        true = is_class(s, labels)
        own = (torch.softmax(t, 1) * torch.log_softmax(s, 1)).masked_fill(~true, 0.0)
        a, b = (
            torch.softmax((x / self.temperature).masked_fill(true, -math.inf), 1) for x in (s, t)
        )
        cost = self.cost.to(s.dtype) + 1e-8
        distances = sinkhorn(a, b, true, cost, self.regularisation, self.iterations)
        return -own.sum(1).mean(), distances.mean()


__all__ = ["WassersteinLogits", "class_distances", "sinkhorn", "transport_cost"]
