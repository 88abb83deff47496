"""What methods are given of a network beside its features, without knowing which it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wcordbench import models, registry
from wcordbench.errors import UserError
from wcordbench.models.wrap import WithFeatures

NAMES = sorted(name for name, e in registry.catalogue("model").items() if not e.is_plugin)


def test_a_network_that_does_not_listen_to_the_classes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its accuracy would be of classes that the images do not have."""
    create = models.create
    monkeypatch.setattr(models, "create", lambda name, _, *more: create(name, 1000, *more))
    with pytest.raises(UserError, match="'resnet8' gives 1000 logits for 11 classes; build its"):
        models.outline("resnet8", 11, 24)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_map_and_the_classifier_give_the_logits(name: str) -> None:
    model = models.create(name, 7, 32).eval()
    with torch.no_grad():
        features = model(torch.randn(2, 3, 32, 32))
        assert features.last_map is not None
        pooled = features.last_map.mean((2, 3))
        torch.testing.assert_close(pooled, features.pooled)
        torch.testing.assert_close(models.classifier_of(model)(pooled), features.logits)
    assert features.detach().shapes() == features.shapes() == models.outline(name, 7, 32).shapes


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_those_before_the_last_relu(name: str) -> None:
    """A shift of the batch norm moves the map before the ReLU by as much, wherever it is."""
    model = models.create(name, 7, 32).eval()
    norms = models.norms_of(model)
    if name in ("mobilenetv2", "shufflenetv2"):
        assert isinstance(norms, str) and name in norms
        return
    assert isinstance(norms, tuple) and len(norms) == len(models.feature_shapes(name, 7).stages)
    images = torch.randn(1, 3, 32, 32)
    for stage, (_, shift) in enumerate(norms):
        with torch.no_grad():
            before = model(images).stages_preact[stage]
            shift += 1
            after = model(images).stages_preact[stage]
            shift -= 1
        torch.testing.assert_close(after, before + 1, atol=1e-4, rtol=1e-4)


def test_a_network_of_ones_own_names_its_last_map_and_layer() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    wrapped = WithFeatures(network, "0", ["2"], "4", "5", last_map="2", classifier="5")
    features = wrapped(torch.randn(2, 3, 8, 8))
    assert features.last_map is features.stages[0]
    classifier = models.classifier_of(wrapped)
    assert classifier is not None
    torch.testing.assert_close(classifier(features.last_map.mean((2, 3))), features.logits)
    copied = copy.deepcopy(wrapped)
    assert models.classifier_of(copied) is not classifier
    assert {id(p) for p in models.classifier_of(copied).parameters()} <= {
        id(p) for p in copied.parameters()
    }
    plain = WithFeatures(network, "0", ["2"], "4", "5")
    assert models.classifier_of(plain) is None
    assert plain(torch.randn(2, 3, 8, 8)).last_map is None
    with pytest.raises(UserError, match="Sequential has no layer '6'"):
        WithFeatures(network, "0", ["2"], "4", "5", classifier="6")
