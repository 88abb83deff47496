"""Teachers that are given as files: what they reach on the test images."""

from __future__ import annotations

from typing import Any

import torch

from wcordbench import models
from wcordbench.data.base import Dataset
from wcordbench.data.batches import TestBatches
from wcordbench.data.views import View
from wcordbench.suite.schema import Suite
from wcordbench.training.draws import seeded
from wcordbench.training.evaluation import evaluate


def measure(suite: Suite, model: str, file: str, dataset: Dataset) -> dict[str, float]:
    """A teacher's accuracy as its suite shows it the test images, on the CPU.

    Args:
        suite: whose normalisation and view of the teacher are used.
        model: the architecture.
        file: its weights.
        dataset: the suite's, loaded.

    Returns:
        As :func:`wcordbench.training.evaluation.evaluate`.

    Raises:
        UserError: the weights cannot be read or do not fit.
    """
    device = torch.device("cpu")
    _, side, _, channels = dataset.test.shape
    mean, std = suite.dataset.mean, suite.dataset.std
    view = View(suite.views.teacher.config(suite.dataset), side, mean, std, device)
    with seeded(0):  # the weights are read below: only the global generator must not move
        network = models.create(model, len(dataset.classes), view.size, channels)
    models.load_checkpoint(network, file)
    network.eval().to(memory_format=torch.channels_last)
    batches: Any = TestBatches(dataset.test, mean, std, device, view)
    return evaluate(network, batches, "fp32", device)


__all__ = ["measure"]
