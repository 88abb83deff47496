"""timm's networks through the adapter."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from wcordbench import models
from wcordbench.errors import UserError

timm = pytest.importorskip("timm")

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
    assert models.shapes_of(model, features) == models.feature_shapes(name, 7, size, 1)
    assert not models.feature_shapes(name, 7, size, 1).preact
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
    ("name", "size", "shown"),
    [
        ("resnet18", 64, True), ("swin_tiny_patch4_window7_224", 224, True),
        ("vit_tiny_patch16_224", 32, False),  # tokens
        ("convnext_atto", 64, False),  # a norm comes between
    ],
)  # fmt: skip
def test_the_last_map_is_the_one_whose_mean_is_classified(
    name: str, size: int, shown: bool
) -> None:
    model = models.create(f"timm:{name}", 3, size).eval()
    with torch.no_grad():
        features = model(torch.randn(1, 3, size, size))
    assert (features.last_map is not None) == shown
    assert (models.outline(f"timm:{name}", 3, size).shapes.last_map is not None) == shown
    if features.last_map is not None:
        torch.testing.assert_close(features.last_map.mean((2, 3)), features.pooled)
    assert isinstance(models.norms_of(model), str)


SMALL = "timm:mobilenetv3_small_050"


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The weights that timm's download gives: 1,000 classes, colour images."""
    torch.manual_seed(5)
    state: dict[str, torch.Tensor] = timm.create_model("mobilenetv3_small_050").state_dict()

    def download(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in state.items()}

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    return state


@pytest.mark.parametrize(("classes", "channels"), [(2, 3), (2, 1), (1000, 3)])
def test_pretrained_weights_but_for_the_classifier(
    classes: int, channels: int, published: dict[str, torch.Tensor]
) -> None:
    model = models.create(SMALL, num_classes=classes, in_channels=channels)
    own = {key: value.clone() for key, value in model.model.state_dict().items()}
    before = torch.random.get_rng_state()
    model.load_pretrained()
    assert torch.equal(before, torch.random.get_rng_state())
    for key, value in model.model.state_dict().items():
        want = own[key] if key.startswith("classifier.") and classes == 2 else published[key]
        if key == "conv_stem.weight" and channels == 1:  # grey in all three channels, summed
            want = published[key].sum(1, keepdim=True)
        torch.testing.assert_close(value, want)


def test_a_file_of_timms_weights_begins_a_training(
    published: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The same as the download gives, from a file put there by hand."""
    model, other = (models.create(SMALL, num_classes=2, in_channels=1) for _ in range(2))
    other.load_state_dict(model.state_dict())
    model.load_pretrained()
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        if path.suffix == ".pth":
            torch.save(published, path)
        else:
            safetensors.torch.save_file(published, path)
        models.load_checkpoint(other, path, transfer=True)
        for key, value in other.state_dict().items():
            torch.testing.assert_close(value, model.state_dict()[key])
        with pytest.raises(UserError, match="name the model and image channels"):
            models.load_checkpoint(other, path)
        with pytest.raises(UserError, match=r"has 1000 classes.*or give it as 'pretrained'"):
            models.load_checkpoint(models.create(SMALL, num_classes=2), path)
    path.write_bytes(path.read_bytes()[:5000])
    damaged = path.rename(tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="damaged"):
        models.load_checkpoint(other, damaged, transfer=True)


def test_our_own_files_of_a_timm_model_are_ours(tmp_path: Path) -> None:
    model, other = (models.create(SMALL, num_classes=2) for _ in range(2))
    torch.save({"model": model.state_dict()}, tmp_path / "student.pt")
    models.load_checkpoint(other, tmp_path / "student.pt")
    for key, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])


def test_torchvisions_inception_loses_its_auxiliary_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        theirs = timm.create_model("inception_v3", aux_logits=True).state_dict()
    state = {k: torch.full(v.shape, 0.5, dtype=v.dtype) for k, v in theirs.items()}
    assert any(key.startswith("AuxLogits.") for key in state)
    torch.save(state, tmp_path / "inception_v3_google.pth")
    # timm's way to draw them takes seconds.
    module = importlib.import_module("timm.models.inception_v3")  # hidden by the function
    monkeypatch.setattr(module, "trunc_normal_", lambda *_, **__: None)
    model = models.create("timm:inception_v3.tv_in1k", num_classes=2, image_size=299)
    models.load_checkpoint(model, tmp_path / "inception_v3_google.pth", transfer=True)
    for key, value in model.model.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, state[key])
    assert model.get_classifier().weight.shape == (2, 2048)


def test_pretrained_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: Any, **kwargs: Any) -> None:
        raise OSError("We couldn't connect\nto the hub.")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", download)
    model = models.create(SMALL, num_classes=2)
    with pytest.raises(UserError) as caught:
        model.load_pretrained()
    for part in (SMALL, "(We couldn't connect)", "https://huggingface.co/timm/", "'pretrained'"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_normalisation_of_pretrained_weights() -> None:
    assert models.pretrained_normalisation("timm:inception_v3.tv_in1k") == ((0.5,) * 3,) * 2
    mean, _ = models.pretrained_normalisation("timm:inception_v3.gluon_in1k")
    assert mean == (0.485, 0.456, 0.406)
    with pytest.raises(UserError, match="timm has no pretrained weights of 'botnet50ts_256'"):
        models.pretrained_normalisation("timm:botnet50ts_256")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm:resnet81", 32, "timm knows no model 'resnet81'; did you mean resnet18"),
        ("timm:zzzqq", 32, "see timm.list_models"),
        ("timm:resnet18.none", 32, "no weights 'resnet18.none'; of resnet18 there are resnet18.a1"),
        ("timm:inception_v3", 32, "'timm:inception_v3' cannot process 32x32 images"),
        ("timm:vit_tiny_patch16_224", 8, "use larger images or another model"),
        (
            "timm:deit_tiny_distilled_patch16_224",
            32,
            "has 2 classifiers and predicts their mean; .* choose timm:deit_tiny_patch16_224",
        ),
        ("timm:levit_128s", 224, "has 2 classifiers .* choose a network with one"),
    ],
)
def test_errors_name_the_model_and_the_remedy(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        models.create(name, num_classes=10, image_size=size)
    assert "\n" not in str(caught.value)
