"""What teacher and student see: the same crop and flip of the same image, each at its own view."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wcordbench.data.augment import CropFlip
from wcordbench.data.base import Images
from wcordbench.data.batches import TestBatches, TrainingBatches, dataset_batches
from wcordbench.data.views import View, batch_views, resize, send

CPU = torch.device("cpu")
SIDE = 12


def marked(count: int = 40, channels: int = 3) -> Images:
    """Images in which every pixel tells its image and its place, so that no crop is another."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (count, SIDE, SIDE, channels), dtype=np.uint8)
    return Images(pixels, np.arange(count) % 2)


def config(student: dict[str, Any] | None, teacher: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dataset": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
        "seed": 7,
        "teacher": {"model": "x"},
        "train": {"batch_size": 16, "augment": {"crop_padding": 3, "flip": True}},
    }
    if student:
        found["view"] = student
    if teacher:
        found["teacher"]["view"] = teacher
    return found


def drawn(student: dict[str, Any] | None, teacher: dict[str, Any] | None) -> TrainingBatches:
    asked = config(student, teacher)
    return dataset_batches(asked, marked(), CPU, asked["teacher"])


def pixels(images: Tensor, view: dict[str, Any] | None = None) -> Tensor:
    """What was normalised, ``(B, C, S, S)`` from 0 to 255."""
    view = view or {}
    mean = torch.tensor(view.get("mean", [0.5, 0.4, 0.3]))[:, None, None]
    std = torch.tensor(view.get("std", [0.2, 0.3, 0.4]))[:, None, None]
    return 255 * (images * std + mean)


@pytest.mark.parametrize("small", [1, 2, 3, 4, 5, 6, 12])
def test_both_see_the_same_crop_and_flip(small: int) -> None:
    """The student's image is the teacher's, averaged down: for every image of two epochs."""
    teacher = {"mean": [0.1, 0.2, 0.3], "std": [0.9, 0.8, 0.7]}
    batches = drawn({"size": small}, teacher)
    seen = 0
    for epoch in (0, 1):
        for images, privileged, batch in batches.pairs(epoch):
            whole = pixels(privileged(), teacher)
            assert whole.shape == (len(batch.indices), 3, SIDE, SIDE)
            assert images.shape[2:] == (small, small)
            want = torch.nn.functional.adaptive_avg_pool2d(whole, small)
            torch.testing.assert_close(pixels(images), want, rtol=0, atol=0.01)
            seen += len(batch.indices)
    assert seen == 80


def test_the_crop_and_flip_are_those_without_views() -> None:
    """A view changes what is seen of the cut-out image, not which part is cut out."""
    plain = drawn(None, None)
    viewed = drawn({"size": 4}, {"size": 24})
    for (a, _, x), (b, large, y) in zip(plain.pairs(3), viewed.pairs(3), strict=True):
        assert torch.equal(x.indices, y.indices) and torch.equal(x.labels, y.labels)
        torch.testing.assert_close(pixels(b), pixels(resize(a, 4)), rtol=0, atol=0.01)
        assert large().shape[2:] == (24, 24)
        torch.testing.assert_close(pixels(large()), resize(pixels(a), 24), rtol=0, atol=0.01)


def test_an_image_is_cut_out_once_and_the_teachers_view_is_made_when_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuts: list[int] = []
    cut = CropFlip.cut

    def counted(self: CropFlip, *arguments: Any) -> Tensor:
        cuts.append(1)
        return cut(self, *arguments)

    monkeypatch.setattr(CropFlip, "cut", counted)
    batches = drawn({"size": 3}, {"size": 24})
    made: list[int] = []
    view = batches.teacher
    monkeypatch.setattr(batches, "teacher", lambda *a: made.append(1) or view(*a))
    for _, privileged, batch in batches.pairs(0):
        if batch.indices[0] % 2:
            privileged()
            assert made.pop()
    assert len(cuts) == len(batches) and not made


def test_where_both_see_the_same_it_is_one_tensor() -> None:
    for view in (None, {"size": 4, "noise": 0.1}):
        images, privileged, _ = next(drawn(view, view).pairs(0))
        assert privileged() is images
    student, teacher = batch_views(config({"size": 4}, None), None, SIDE, CPU)
    assert student is teacher


def test_grey_is_the_luma_in_every_channel() -> None:
    images = torch.from_numpy(marked(4).pixels)
    grey = View({"grayscale": True}, SIDE, [0.0] * 3, [1.0] * 3, CPU)(images) * 255
    want = images.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    for channel in range(3):
        torch.testing.assert_close(grey[:, channel].double(), want, rtol=0, atol=1e-3)


def test_noise_is_the_positions_and_of_the_deviation_asked_for() -> None:
    images = torch.full((64, 32, 32, 3), 128, dtype=torch.uint8)
    view = View({"noise": 0.1}, 32, [0.0] * 3, [1.0] * 3, CPU, seed=3)
    first, again, other = view(images, 0, 0), view(images, 0, 0), view(images, 0, 1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert abs(float(first.std()) - 0.1) < 0.001
    assert abs(float(first.mean()) - 128 / 255) < 0.001
    seeded = View({"noise": 0.1}, 32, [0.0] * 3, [1.0] * 3, CPU, seed=4)
    assert not torch.equal(first, seeded(images, 0, 0))
    strong = View({"noise": 5.0}, 32, [0.0] * 3, [1.0] * 3, CPU)(images, 0)
    assert float(strong.min()) >= 0 and float(strong.max()) <= 1


def test_teacher_and_student_have_noise_of_their_own() -> None:
    images, privileged, _ = next(drawn({"noise": 0.1}, {"noise": 0.1, "blur": 0.01}).pairs(0))
    assert not torch.allclose(images, privileged(), atol=0.01)


@given(sigma=st.floats(0.05, 6), side=st.integers(2, 20), channels=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_blur_keeps_flat_images_flat_and_commutes_with_flips(
    sigma: float, side: int, channels: int
) -> None:
    view = View({"blur": sigma}, side, [0.0] * channels, [1.0] * channels, CPU)
    flat = torch.full((1, side, side, channels), 77, dtype=torch.uint8)
    torch.testing.assert_close(view(flat) * 255, torch.full((1, channels, side, side), 77.0))
    rough = torch.randint(256, (2, side, side, channels), dtype=torch.uint8)
    torch.testing.assert_close(view(rough.flip(2)), view(rough).flip(3), rtol=0, atol=1e-4)


@given(
    base=st.integers(1, 24),
    size=st.integers(1, 40),
    noise=st.sampled_from([0.0, 0.2]),
    grayscale=st.booleans(),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None)
def test_every_view_gives_finite_images_of_its_size(
    base: int, size: int, noise: float, grayscale: bool, channels: int
) -> None:
    asked = {"size": size, "noise": noise, "grayscale": grayscale}
    view = View(asked, base, [0.0] * channels, [1.0] * channels, CPU)
    images = torch.randint(256, (3, base, base, channels), dtype=torch.uint8)
    seen = view(images, 1, 2)
    assert seen.shape == (3, channels, size, size) and seen.dtype == torch.float32
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert float(seen.min()) >= -1e-5 and float(seen.max()) <= 1 + 1e-5
    if not noise and not grayscale:  # neither averages nor interpolations leave the range
        assert float(seen.max()) <= float(images.max()) / 255 + 1e-5


def test_tests_see_the_view_without_crops_in_batches_that_fit_its_size() -> None:
    images = marked(30)
    view = View({"size": 299}, SIDE, [0.0] * 3, [1.0] * 3, CPU)
    test = TestBatches(images, [0.0] * 3, [1.0] * 3, CPU, view)
    parts = list(test)
    assert parts[0][0].shape == (22, 3, 299, 299)  # 22 × 299² pixels are 500 × 63²
    assert torch.cat([y for _, y in parts]).tolist() == images.labels.tolist()


def test_what_is_sent_to_cuda_is_pinned_and_not_waited_for() -> None:
    values, cuda = mock.Mock(spec=Tensor), torch.device("cuda")
    sent = send(values, cuda)
    values.pin_memory.assert_called_once_with()
    pinned = values.pin_memory.return_value
    pinned.to.assert_called_once_with(cuda, non_blocking=True)
    assert sent is pinned.to.return_value
    here = torch.arange(3)
    assert send(here, CPU) is here
