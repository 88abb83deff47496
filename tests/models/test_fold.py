"""A folded network against itself, with the statistics of a network that has been trained."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.models.features import Features
from wcordbench.models.fold import difference, fold


def normed(network: nn.Module) -> int:
    """How many batch norms there are."""
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())


def trained(network: nn.Module) -> nn.Module:
    """In evaluation mode, with batch norms that all do something of their own."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet8", 0), ("resnet20", 0), ("resnet8x4", 0), ("ResNet50", 0), ("vgg8", 0),
        ("mobilenetv2", 0), ("shufflenetv1", 0), ("shufflenetv2", 0),
        ("wrn_16_1", 7),  # a batch norm after a sum or a shared map has no layer to go to
    ],
)  # fmt: skip
def test_every_feature_survives(name: str, left: int) -> None:
    torch.manual_seed(0)
    network = trained(models.create(name, 10, 16))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network, 16)
    assert (normed(folded), folded.training) == (left, False)
    assert not any(p.requires_grad for p in folded.parameters())
    images = torch.randn(3, 3, 16, 16)
    features = folded(images)
    assert isinstance(features, Features)
    assert features.shapes() == network(images).shapes()
    assert difference(network(images), features) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Odd(nn.Module):
    """One convolution; what is odd is said by ``kind``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Features:
        if self.kind == "untraceable" and x.sum() > 1e9:
            return Features(x, (x,), (x,), x, x)
        out = self.conv(x)
        normed = self.bn(out)
        if self.kind == "twice":
            normed = self.bn(self.conv(normed.relu()))
        stem = out if self.kind == "seen" else normed
        pooled = normed.mean((2, 3))
        return Features(stem, (normed.relu(),), (normed,), pooled, pooled)


@pytest.mark.parametrize("kind", ["untraceable", "twice"])
def test_what_cannot_be_folded_stays_as_it_is(kind: str) -> None:
    torch.manual_seed(0)
    network = trained(Odd(kind))
    assert fold(network, 8) is network


def test_a_convolution_that_is_itself_a_feature_is_not_folded() -> None:
    torch.manual_seed(0)
    network = trained(Odd("seen"))
    folded = fold(network, 8)
    assert normed(folded) == 1
    images = torch.randn(2, 3, 8, 8)
    assert difference(network(images), folded(images)) == 0
    assert normed(fold(trained(Odd("plain")), 8)) == 0
