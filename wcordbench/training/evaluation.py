"""A network's accuracy and loss on the test images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from wcordbench.training import metrics
from wcordbench.training.host import fetch, read
from wcordbench.training.precision import autocast


class StoppedError(Exception):
    """A stop was asked for; of a cohort, every run's checkpoint has been written."""


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    test: Iterable[tuple[Tensor, Tensor]],
    precision: str,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
    auc: bool = False,
) -> dict[str, float]:
    """Top-1 and top-5 accuracy in percent and the mean cross entropy in nats.

    Args:
        model: gives :class:`Features`; it is in the mode it was in afterwards.
        test: batches of images ``(B, C, H, W)`` and labels ``(B,)``.
        precision: ``fp32``, or ``bf16`` for autocast.
        device: where it all is.
        should_stop: asked before every batch.
        auc: whether to give the area under the ROC curve as well, in percent; it is left out
            where a logit is not finite (``test_loss`` says so).

    Raises:
        StoppedError: ``should_stop`` said so.
    """
    was_training = model.training
    model.eval()
    top1 = torch.zeros((), dtype=torch.int64, device=device)
    top5 = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    count = 0
    scores: list[Tensor] = []
    truth: list[Tensor] = []
    try:
        for images, labels in test:
            if should_stop():
                raise StoppedError
            with autocast(precision, device):
                logits = model(images).logits
            logits = logits.float()
            ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            top1 += ranked[:, 0].sum()
            top5 += ranked.sum()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum")
            count += len(labels)
            if auc:
                scores.append(logits)
                truth.append(labels)
    finally:
        model.train(was_training)
    right, among_five, summed = read(top1, top5, loss)
    measured = {
        "test_top1": 100 * right / count,
        "test_top5": 100 * among_five / count,
        "test_loss": summed / count,
    }
    if auc and math.isfinite(measured["test_loss"]):
        measured["test_auc"] = metrics.auc(
            fetch(torch.cat(truth)).numpy(), fetch(torch.cat(scores)).numpy()
        )
    return measured


__all__ = ["StoppedError", "evaluate"]
