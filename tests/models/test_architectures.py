"""The networks against figures taken from the public CRD reference implementation."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wcordbench import models, registry

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS: dict[str, Any] = json.loads((REFERENCE / "models.json").read_text())
LOGITS = np.load(REFERENCE / "models.npz")
FAMILIES = [
    "resnet8",
    "ResNet50",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
]


def deterministic_weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """The weights that the reference figures were taken with."""
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        x = np.abs(x) + 0.5
    elif key.endswith(("running_mean", "bias")):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x
    else:
        x = x / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(x.astype(np.float32))


def mean_std(x: Tensor) -> list[float]:
    return [float(x.mean()), float(x.std())]


def assert_mean_std(tensors: list[Tensor], expected: list[list[float]]) -> None:
    assert len(tensors) == len(expected)
    for tensor, (mean, std) in zip(tensors, expected, strict=True):
        # A mean near zero is the difference of large numbers: measure it against the spread.
        assert mean_std(tensor)[0] == pytest.approx(mean, rel=1e-3, abs=1e-4 * std)
        assert mean_std(tensor)[1] == pytest.approx(std, rel=1e-3)


def test_all_reference_architectures_are_registered() -> None:
    assert set(MODELS) <= set(registry.catalogue("model"))


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_reference(name: str) -> None:
    expected = MODELS[name]
    with torch.device("meta"):
        model = models.create(name, num_classes=100)
    state = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert list(state.items()) == [(k, tuple(v)) for k, v in expected["state_dict"].items()]
    assert sum(p.numel() for p in model.parameters()) == expected["parameters"]

    weights = {key: deterministic_weight(key, shape) for key, shape in state.items()}
    model.load_state_dict(weights, assign=True)
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        features = model.eval()(torch.from_numpy(images))

    stem, pooled = features.stem, features.pooled
    shapes = [list(t.shape[1:]) for t in (stem, *features.stages, pooled)]
    assert shapes == expected["features"]
    assert [t.shape for t in features.stages_preact] == [t.shape for t in features.stages]
    assert_mean_std([stem, *features.stages, pooled], expected["feature_mean_std"])
    assert_mean_std([stem, *features.stages_preact, pooled], expected["preact_mean_std"])
    logits = LOGITS[name]
    error = np.linalg.norm(features.logits.numpy() - logits) / np.linalg.norm(logits)
    assert error < 1e-4
    torch.testing.assert_close(model.get_classifier()(pooled), features.logits)


@pytest.mark.parametrize("name", MODELS)
def test_feature_shapes_and_macs_need_no_weights(name: str) -> None:
    expected = MODELS[name]
    shapes = models.feature_shapes(name, 100)
    assert [list(shapes.stem), *map(list, shapes.stages), [shapes.pooled]] == expected["features"]
    assert shapes.logits == 100
    assert models.macs(name, 100, 32) == expected["macs"]


@pytest.mark.parametrize("name", FAMILIES)
def test_trains_and_in_place_operations_leave_features_alone(name: str) -> None:
    torch.manual_seed(0)
    model = models.create(name, num_classes=5, image_size=16).train()
    seen: list[Tensor] = []
    # Copies taken when a module ends, against what the network returns at the very end.
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
        for module in model.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    features = model(torch.randn(2, 3, 16, 16))
    for hook in hooks:
        hook.remove()
    # Backward fails if a tensor that it needs was overwritten.
    everything = (features.stem, *features.stages, *features.stages_preact, features.logits)
    torch.stack([t.square().mean() for t in everything]).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    for stage, preact in zip(features.stages, features.stages_preact, strict=True):
        if name.startswith("wrn"):
            assert any(torch.equal(preact, t) for t in seen)
        elif name in ("resnet8", "ResNet50", "vgg8", "shufflenetv1"):
            assert (preact < 0).any()
            torch.testing.assert_close(stage, preact.relu())
        elif name == "shufflenetv2":
            # The kept half passes as it is, the convolved half through a ReLU.
            assert ((stage == preact) | (stage == preact.relu())).all()
            assert (preact < 0).any()
        else:
            assert stage is preact


def test_wide_resnet_updates_each_batch_norm_once_a_step() -> None:
    model = models.create("wrn_16_1", num_classes=5, image_size=8).train()
    model(torch.randn(2, 3, 8, 8))
    counts = {k: int(v) for k, v in model.state_dict().items() if k.endswith("tracked")}
    assert set(counts.values()) == {1}


def test_channels_last_gives_the_same() -> None:
    for name in FAMILIES:
        torch.manual_seed(0)
        model = models.create(name, num_classes=5, image_size=16).eval()
        images = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            plain = model(images).logits
            model.to(memory_format=torch.channels_last)
            other = model(images.to(memory_format=torch.channels_last)).logits
        torch.testing.assert_close(plain, other, rtol=1e-3, atol=1e-5)


def test_weights_follow_the_global_seed() -> None:
    torch.manual_seed(3)
    one = models.create("resnet8", num_classes=5)
    torch.manual_seed(3)
    two = models.create("resnet8", num_classes=5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    spread = float(one.state_dict()["layer3.0.conv2.weight"].std())
    assert spread == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
