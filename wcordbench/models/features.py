"""What every network gives back: its features.

Imports nothing of the package, so that models need not know methods and a method can be
used without the models.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """What a network shows of a batch of B images.

    Attributes:
        stem: output of the first layers, ``(B, C, H, W)``.
        stages: output of each stage after its last ReLU, each ``(B, C, H, W)``.
        stages_preact: the same before that ReLU.
        pooled: the vector before the classifier, ``(B, D)``.
        logits: ``(B, K)``.
        last_map: the map before the pooling that gives ``pooled``, ``(B, D, H, W)``; None
            where the network has none, or does not show it.
    """

    stem: Tensor
    stages: tuple[Tensor, ...]
    stages_preact: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor
    last_map: Tensor | None = None

    def detach(self) -> Features:
        """The same values, cut from the graph."""
        return Features(
            self.stem.detach(),
            tuple(s.detach() for s in self.stages),
            tuple(s.detach() for s in self.stages_preact),
            self.pooled.detach(),
            self.logits.detach(),
            None if self.last_map is None else self.last_map.detach(),
        )

    def shapes(self) -> FeatureShapes:
        """The shapes of one image's features."""
        return FeatureShapes(
            tuple(self.stem.shape[1:]),
            tuple(tuple(s.shape[1:]) for s in self.stages),
            self.pooled.shape[1],
            self.logits.shape[1],
            None if self.last_map is None else tuple(self.last_map.shape[1:]),
        )


class FeatureShapes(NamedTuple):
    """Shapes of :class:`Features` without the batch dimension.

    Attributes:
        stem: ``(C, H, W)``.
        stages: ``(C, H, W)`` of each stage; those before the ReLU are the same.
        pooled: D.
        logits: K.
        last_map: ``(D, H, W)``, or None.
        preact: whether the maps before the stages' last ReLU are shown, or those after it in
            their place.
    """

    stem: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...]
    pooled: int
    logits: int
    last_map: tuple[int, ...] | None = None
    preact: bool = True
