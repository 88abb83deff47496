"""Other image sizes, channels and class counts, and what is said where they cannot be had."""

from __future__ import annotations

import pytest
import torch

from wcordbench import models
from wcordbench.errors import UserError

SMALL = ["resnet8", "resnet8x4", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("name", SMALL)
def test_runs_at_other_sizes(name: str, size: int) -> None:
    model = models.create(name, num_classes=3, image_size=size, in_channels=1).eval()
    with torch.no_grad():
        features = model(torch.randn(1, 1, size, size))
    assert features.shapes() == models.feature_shapes(name, 3, size, 1)
    assert features.logits.shape == (1, 3)
    assert all(torch.isfinite(t).all() for t in (features.pooled, features.logits))


@pytest.mark.parametrize("size", [28, 96])
@pytest.mark.parametrize("name", [*SMALL, "ResNet50"])
def test_pooled_width_does_not_depend_on_the_size(name: str, size: int) -> None:
    assert models.feature_shapes(name, 1000, size).pooled == models.feature_shapes(name, 2).pooled


@pytest.mark.parametrize(
    ("size", "sides"),
    [(8, [8, 4, 2, 1, 1]), (16, [16, 8, 4, 2, 2]), (32, [32, 16, 8, 4, 4]),
     (64, [64, 32, 16, 8, 4]), (96, [96, 48, 24, 12, 6])],
)  # fmt: skip
def test_vgg_pools_before_its_last_stage_from_64_pixels_on(size: int, sides: list[int]) -> None:
    shapes = models.feature_shapes("vgg8", 10, size)
    assert [s[1] for s in (shapes.stem, *shapes.stages)] == sides


@pytest.mark.parametrize("name", ["vgg8", "vgg11", "vgg13", "vgg16", "vgg19"])
def test_vgg_refuses_images_that_would_vanish(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} needs images of at least 8x8 .* got 7x7; use"):
        models.create(name, num_classes=10, image_size=7)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model 'resnet8x5'; did you mean 'resnet8x4'"):
        models.create("resnet8x5", num_classes=10)
