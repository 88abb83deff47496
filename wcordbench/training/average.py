"""A moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


class Average(nn.Module):
    """timm's ``ModelEmaV3`` of a network: average ← decay · average + (1 − decay) · weights.

    Batch norms' statistics are averaged as the weights are; counters are copied.

    Args:
        network: what the average begins with.
        decay: of a step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        from timm.utils.model_ema import ModelEmaV3  # only where a suite asks for it

        self.ema = ModelEmaV3(network, decay=decay)
        self.ema.requires_grad_(False)

    @property
    def module(self) -> nn.Module:
        """The network with the averaged weights, in evaluation mode."""
        network: nn.Module = self.ema.module
        return network

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """After a step."""
        self.ema.update(network)


__all__ = ["Average"]
