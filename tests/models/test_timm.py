"""timm's networks through the adapter."""

from __future__ import annotations

import pytest
import torch

from wcordbench import models
from wcordbench.errors import UserError

pytest.importorskip("timm")

NAMES = [
    ("timm:resnet18", 32),
    ("timm:mobilenetv3_small_050", 32),
    ("timm:convnext_atto", 32),
    ("timm:vit_tiny_patch16_224", 32),
]


@pytest.mark.parametrize(("name", "size"), NAMES)
def test_features_agree_with_timm(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = models.create(name, num_classes=7, image_size=size, in_channels=1).eval()
    images = torch.randn(2, 1, size, size)
    with torch.no_grad():
        features = model(images)
        torch.testing.assert_close(features.logits, model.model(images))
        torch.testing.assert_close(model.get_classifier()(features.pooled), features.logits)
        # Stopped early, nothing comes after a map that could overwrite it.
        maps = [
            model.model.forward_intermediates(
                images, indices=[i], stop_early=True, intermediates_only=True
            )[0]
            for i in model._indices
        ]
    for got, want in zip((features.stem, *features.stages), maps, strict=True):
        torch.testing.assert_close(got, want)
    assert features.stages_preact == features.stages
    assert features.shapes() == models.feature_shapes(name, 7, size, 1)
    assert features.logits.shape == (2, 7)


def test_trains() -> None:
    model = models.create("timm:resnet18", num_classes=3).train()
    features = model(torch.randn(2, 3, 64, 64))
    torch.stack(
        [t.mean() for t in (features.stem, *features.stages, features.logits)]
    ).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_transformer_takes_a_stem_and_four_quarters() -> None:
    shapes = models.feature_shapes("timm:vit_tiny_patch16_224", 10, 32)
    assert shapes.stem == (192, 2, 2)
    assert shapes.stages == ((192, 2, 2),) * 4


def test_inception_is_the_teacher_of_privileged_distillation() -> None:
    shapes = models.feature_shapes("timm:inception_v3", 2, 96)
    assert (shapes.pooled, shapes.logits) == (2048, 2)
    assert [s[0] for s in shapes.stages] == [192, 288, 768, 2048]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm:resnet81", 32, "timm knows no model 'resnet81'; did you mean resnet18"),
        ("timm:zzzqq", 32, "see timm.list_models"),
        ("timm:inception_v3", 32, "'timm:inception_v3' cannot process 32x32 images"),
        ("timm:vit_tiny_patch16_224", 8, "use larger images or another model"),
        ("timm:deit_tiny_distilled_patch16_224", 32, "no single classifier"),
    ],
)
def test_errors_name_the_model_and_the_remedy(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        models.create(name, num_classes=10, image_size=size)
    assert "\n" not in str(caught.value)
