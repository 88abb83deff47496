"""Augmentation and batches: the protocol's distribution, and nothing but seed and position."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from wcordbench.data.base import Images
from wcordbench.data.batches import Normalise, TestBatches, TrainingBatches, dataset_batches
from wcordbench.seeds import derive

CPU = torch.device("cpu")
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]


def noise(count: int, size: int = 32, channels: int = 3) -> Images:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
    return Images(pixels, rng.integers(0, 10, count))


def batches(
    images: Images, batch_size: int = 32, seed: int = 0, **options: object
) -> TrainingBatches:
    values: dict[str, object] = {"crop_padding": 4, "flip": True, **options}
    channels = images.pixels.shape[3]
    return TrainingBatches(
        images, batch_size, seed, MEAN[:channels], STD[:channels], device=CPU, **values  # type: ignore[arg-type]
    )  # fmt: skip


def test_offsets_are_uniform_and_half_the_images_are_mirrored() -> None:
    """The centre pixel tells the offset, its neighbours the flip: counted for 16,200 images."""
    side, per_cell = 15, 100
    image = np.arange(1, side * side + 1, dtype=np.uint8).reshape(side, side, 1)  # no zeros
    count = 2 * 81 * per_cell
    images = Images(np.repeat(image[None], count, 0), np.zeros(count, np.int64))
    drawn = TrainingBatches(images, 1000, 0, [0.0], [1.0], 4, True, CPU)
    pixels = torch.cat([x for x, _ in drawn.epoch(0)]).mul(255).round().long()[:, 0]
    centre = pixels[:, 7, 7] - 1
    down, across = centre // side - 3, centre % side - 3
    mirrored = pixels[:, 7, 6] > pixels[:, 7, 8]
    assert down.min() == across.min() == 0 and down.max() == across.max() == 8
    cells = torch.bincount((down * 9 + across) * 2 + mirrored, minlength=162).double()
    # Chi-square at one in a thousand: 220 for the 161 degrees of freedom of offset × flip,
    # 125 for the 80 of the offsets, 10.8 for the one of the flips.
    for table, limit in (
        (cells, 220),
        (cells.view(81, 2).sum(1), 125),
        (cells.view(81, 2).sum(0), 10.8),
    ):
        expected = count / len(table)
        assert ((table - expected) ** 2 / expected).sum() < limit


def test_equals_a_slow_reference_image_by_image() -> None:
    images = noise(70)
    drawn = batches(images, 32)
    for step, (got, batch) in enumerate(drawn.epoch(5)):
        generator = torch.Generator().manual_seed(derive(0, "augment", 5, step))
        b = len(batch.indices)
        down, across = torch.randint(9, (2, b, 1), generator=generator)[..., 0].tolist()
        mirror = (torch.rand(b, 1, generator=generator) < 0.5)[:, 0].tolist()
        for i, index in enumerate(batch.indices.tolist()):
            image = ImageOps.expand(Image.fromarray(images.pixels[index]), 4, 0)  # raw zeros
            image = image.crop((across[i], down[i], across[i] + 32, down[i] + 32))
            if mirror[i]:
                image = ImageOps.mirror(image)
            values = np.asarray(image).astype(np.float64) / 255
            want = torch.from_numpy((values - MEAN) / STD).permute(2, 0, 1).float()
            torch.testing.assert_close(got[i], want, rtol=0, atol=1e-6)
            raw = got[i].double() * torch.tensor(STD)[:, None, None] * 255
            raw += 255 * torch.tensor(MEAN)[:, None, None]
            assert torch.equal(
                raw.round().to(torch.uint8), torch.from_numpy(np.array(image)).permute(2, 0, 1)
            )


def test_without_crop_and_flip_the_images_are_as_they_are() -> None:
    images = noise(10)
    for got, batch in batches(images, 4, crop_padding=0, flip=False).epoch(0):
        want = Normalise(MEAN, STD, CPU)(torch.from_numpy(images.pixels)[batch.indices])
        assert torch.equal(got, want)


def test_normalise_is_per_channel() -> None:
    pixels = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    got = Normalise(MEAN, STD, CPU)(pixels)
    want = [(v / 255 - m) / s for v, m, s in zip((0, 128, 255), MEAN, STD, strict=True)]
    assert got.shape == (1, 3, 1, 1) and got.dtype == torch.float32
    assert got.flatten().tolist() == pytest.approx(want, abs=1e-6)


def test_every_image_once_an_epoch_and_the_last_batch_is_kept() -> None:
    images = noise(70, 8)
    drawn = batches(images, 32)
    parts = [b for _, b in drawn.epoch(0)]
    assert [len(b.indices) for b in parts] == [32, 32, 6] and len(drawn) == 3
    indices = torch.cat([b.indices for b in parts])
    assert sorted(indices.tolist()) == list(range(70)) != indices.tolist()
    assert torch.equal(
        torch.cat([b.labels for b in parts]), torch.from_numpy(images.labels)[indices]
    )


@pytest.mark.parametrize("epoch", [-2, 0, 7])
def test_a_step_is_the_same_wherever_one_starts(epoch: int) -> None:
    drawn = batches(noise(70, 8), 16)
    whole = list(drawn.epoch(epoch))
    for start in range(len(drawn) + 1):
        rest = list(drawn.epoch(epoch, start))
        assert len(rest) == len(whole) - start
        for (x, b), (y, c) in zip(rest, whole[start:], strict=True):
            assert torch.equal(x, y) and torch.equal(b.indices, c.indices)


def test_seeds_epochs_and_steps_differ() -> None:
    images = noise(64, 8)
    same = Images(np.repeat(images.pixels[:1], 64, 0), images.labels)  # only crops and flips differ
    first = {}
    for seed in (0, 1):
        for epoch in (-1, 0, 1):
            (x, b), (y, c) = batches(same, 32, seed).epoch(epoch)
            first[seed, epoch, 0], first[seed, epoch, 1] = (x, b.indices), (y, c.indices)
    keys = list(first)
    for i, one in enumerate(keys):
        for other in keys[i + 1 :]:
            assert not torch.equal(first[one][0], first[other][0])
            assert not torch.equal(first[one][1], first[other][1])


def test_memory_is_channels_last() -> None:
    x, batch = next(batches(noise(8), 8).epoch(0))
    assert x.shape == (8, 3, 32, 32) and x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.dtype == batch.indices.dtype == torch.int64


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(3)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    list(batches(noise(40, 8), 16).epoch(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]


def test_test_images_come_in_order_unchanged() -> None:
    images = noise(1203, 8)
    parts = list(TestBatches(images, MEAN, STD, CPU))
    assert [len(y) for _, y in parts] == [500, 500, 203]
    want = Normalise(MEAN, STD, CPU)(torch.from_numpy(images.pixels))
    assert torch.equal(torch.cat([x for x, _ in parts]), want)
    assert torch.cat([y for _, y in parts]).tolist() == images.labels.tolist()


def test_batches_of_large_test_images_are_smaller() -> None:
    images = noise(30, 256)
    assert [len(y) for _, y in TestBatches(images, MEAN, STD, CPU)] == [30]
    assert TestBatches(noise(1, 299), MEAN, STD, CPU).batch_size == 22


def test_batches_of_a_configuration() -> None:
    config = {
        "seed": 3,
        "dataset": {"mean": MEAN, "std": STD},
        "train": {"batch_size": 16, "augment": {"crop_padding": 2, "flip": False}},
    }
    images = noise(40, 8)
    got = dataset_batches(config, images, CPU)
    want = batches(images, 16, 3, crop_padding=2, flip=False)
    for (x, _), (y, _) in zip(got.epoch(1), want.epoch(1), strict=True):
        assert torch.equal(x, y)
