"""What is deployed of a run's student, and what it costs: for ``wcordbench table --size``."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from wcordbench import models
from wcordbench.results.size import Size, images_of
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run
from wcordbench.training.objective import Predicting
from wcordbench.training.prediction import outlined, teacher_size


def size_of(run: Run, store: Store) -> Size | None:
    """Parameters and multiply-accumulates of a run's network as it predicts.

    None where neither the dataset nor a stored result says how many classes there are.

    Args:
        run: of a student or a teacher.
        store: where its result is, if it is finished.
    """
    shape = images_of(run, store)
    if shape is None:
        return None
    parts = {key: run.config.get(key) for key in ("model", "teacher", "method", "train", "view")}
    return _size(json.dumps(parts), *shape)


@functools.cache
def _size(parts: str, classes: int, base: int, channels: int) -> Size:
    config: dict[str, Any] = json.loads(parts)
    size = int((config["view"] or {}).get("size") or base)
    with torch.device("meta"):
        network = models.create(config["model"], classes, size, channels).eval()
    sizes = (size, teacher_size(config, base))
    deployed = outlined(network, config, classes, sizes, channels).eval().requires_grad_()
    images = torch.empty(1, channels, size, size, device="meta")
    with FlopCounterMode(display=False) as counter:
        own = network(images)
        predicts = deployed.objective.predict(own) if isinstance(deployed, Predicting) else own
    flops = counter.get_total_flops()
    weights = list(deployed.parameters())
    gradients = torch.autograd.grad(
        predicts.logits.sum(), [*weights, own.logits], allow_unused=True
    )
    head = models.classifier_of(network)
    # The network calls its head also where the prediction does not go through what that gives.
    if head is not None and gradients[-1] is None:
        with FlopCounterMode(display=False) as counter:
            head(own.pooled)
        flops -= counter.get_total_flops()
    used = [w for w, gradient in zip(weights, gradients, strict=False) if gradient is not None]
    return Size(sum(w.numel() for w in used), flops // 2)


__all__ = ["size_of"]
