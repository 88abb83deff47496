"""The strong augmentation of a second view."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from wcordbench.data import strong as module
from wcordbench.data.base import Images
from wcordbench.data.batches import TrainingBatches
from wcordbench.data.strong import LARGEST, MAGNITUDE, TABLE, strong
from wcordbench.errors import UserError

CPU = torch.device("cpu")
#: torchvision's names, in the order of ours
NAMES = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip


def pixels(count: int = 32, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 16, 16, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def drawn(seed: int, images: Tensor | None = None) -> Tensor:
    return strong(pixels() if images is None else images, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_operations_are_torchvisions(number: int) -> None:
    theirs = v2.RandAugment(num_ops=1, magnitude=MAGNITUDE)
    assert tuple(theirs._AUGMENTATION_SPACE) == NAMES
    magnitudes, signed = theirs._AUGMENTATION_SPACE[NAMES[number]]
    every = magnitudes(LARGEST + 1, 16, 16)
    images = pixels().permute(0, 3, 1, 2)
    for sign in (1, -1) if signed else (1,):
        magnitude = 0.0 if every is None else sign * float(every[MAGNITUDE])
        expected = theirs._apply_image_or_video_transform(
            images, NAMES[number], magnitude, interpolation=InterpolationMode.NEAREST,
            fill=theirs._fill,
        )  # fmt: skip
        found = TABLE[number](images, sign * MAGNITUDE / LARGEST)
        assert found.dtype == torch.uint8
        assert (found.float() - expected.float()).abs().max() <= 1  # a rounding


def test_the_generator_decides_and_images_are_drawn_apart() -> None:
    state = torch.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.get_rng_state(), state)
    same = pixels(1).expand(64, -1, -1, -1)
    assert len(torch.unique(drawn(3, same), dim=0)) > 20


def test_grey_images_work_and_others_are_refused() -> None:
    assert drawn(1, pixels(channels=1)).shape == (32, 16, 16, 1)
    with pytest.raises(UserError, match="1 or 3 channels, and these have 4"):
        drawn(1, pixels(channels=4))


def test_a_second_view_is_of_the_same_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(pixels(12).numpy(), torch.arange(12).numpy())
    batches = TrainingBatches(images, 4, 0, [0.5] * 3, [0.25] * 3, 2, True, CPU)
    for first, sight, _ in batches.pairs(3, 1):
        assert sight() is first
        student, teacher = sight.second()
        assert student is teacher and student.shape == first.shape
        assert torch.equal(sight.second()[0], student)
        assert not torch.equal(student, first)
    monkeypatch.setattr(module, "TABLE", [lambda x, _: x])
    for first, sight, _ in batches.pairs(3):
        assert torch.equal(sight.second()[0], first)
