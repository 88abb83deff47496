"""The protocol's optimiser takes the steps of torch's, whichever parameters have gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wcordbench.training.optimizer import Group, build


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_first_gradient_may_come_late(late: int, nesterov: bool) -> None:
    """As that of a network which a method trains in turn with another."""
    protocol = {"weight_decay": 0.01, "momentum": 0.9, "nesterov": nesterov}
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(3, 2)) for _ in range(2)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizer = build(protocol, {Group(1.0, True): ours}, {1.0: torch.tensor(0.1)})
    reference = torch.optim.SGD(theirs, lr=0.1, fused=False, **protocol)
    for step in range(5):
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(3, 2)
            for parameter in pair:
                parameter.grad = None if i == 1 and step < late else gradient.clone()
        optimizer.step()
        reference.step()
    for mine, known in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, known, atol=1e-6)
