"""``classify`` reads an image as the test images of the run's training were read."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wcordbench import load_student, registry
from wcordbench.data import base
from wcordbench.data.decode import Reading, decode
from wcordbench.data.reading import reading_of
from wcordbench.errors import UserError
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite import expand, load_suite
from wcordbench.training.cohort import Cohort
from wcordbench.training.deploy import Student, packed

SUITE = """
name: c
dataset:
  name: imagefolder
  options: {folder: c, image_size: 16}
  mean: [0.4, 0.4, 0.4]
  std: [0.3, 0.3, 0.3]
train:
  epochs: 2
  batch_size: 10
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 0, flip: false}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8_narrow}]
methods: [student]
"""
GREY = ["dataset.options.grayscale=true", "dataset.mean=[0.4]", "dataset.std=[0.3]"]
LAYOUTS = {
    "image_size": [],
    "resize": ["dataset.options.resize=24"],
    "grayscale": GREY,
    "cache": ["dataset.cache=20"],
    "size": ["dataset.options.image_size=32", "dataset.size=8"],
    "all": ["dataset.options.resize=24", "dataset.cache=20", "dataset.size=6", *GREY],
    "whole": ["train.augment.transforms=[{name: random_resized_crop, whole: true}]"],
    "streamed": ["dataset.options.resize=24", "dataset.memory=0.000001"],
    "view": [
        "views.student={size: 12, blur: 0.6, grayscale: true, mean: [0.3, 0.4, 0.5],"
        " std: [0.2, 0.3, 0.4]}"
    ],
}


def photos(root: Path) -> Path:
    """Images of several sizes, whose border says another class than their centre."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate("ab"):
            place = root / "c" / split / name
            place.mkdir(parents=True)
            for i in range(10):
                height, width = draw.integers(24, 40, 2)
                pixels = draw.integers(0, 60, (height, width, 3)) + (190, 0)[label]
                pixels[6:-6, 6:-6] += (-130, 150)[label]
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    return root


def trained(root: Path, settings: list[str]) -> tuple[RunFolder, dict[str, Any]]:
    """A finished plain student, and its configuration."""
    (root / "c.yaml").write_text(SUITE)
    run = next(c.run for c in expand(load_suite(root / "c.yaml", settings)) if c.method)
    store = Store(root / "results")
    Cohort([run], store, root, torch.device("cpu")).train()
    return store.folder(run), run.config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_test_files_are_classified_as_they_were_scored(layout: str, tmp_path: Path) -> None:
    folder, config = trained(photos(tmp_path), LAYOUTS[layout])
    student = load_student(folder.path)
    tested = base.load(config["dataset"], tmp_path).test
    files = sorted((tmp_path / "c" / "test").rglob("*.png"))
    assert np.array_equal(np.stack([student.pixels(f) for f in files]), tested.pixels)
    shown = [decode(f.read_bytes(), student.card.channels == 1) for f in files]
    assert np.array_equal(np.stack([student.pixels(a) for a in shown]), tested.pixels)
    ranked = [dict(student.classify(f)) for f in files]
    hits = [max(found, key=found.__getitem__) == f.parent.name
            for f, found in zip(files, ranked, strict=True)]  # fmt: skip
    assert 100 * np.mean(hits) == pytest.approx(folder.result()["scores"]["top1"])
    loss = np.mean([-math.log(p[f.parent.name]) for f, p in zip(files, ranked, strict=True)])
    assert loss == pytest.approx(folder.read_json("metrics.json")[-1]["test_loss"], rel=1e-4)
    card = json.loads(student.card.text())
    assert Reading(**card["reading"]) == reading_of(config["dataset"])
    exported = torch.load(_file(tmp_path, packed(student, "state_dict")), weights_only=True)
    assert exported["wcordbench"] == card


def _file(root: Path, content: bytes) -> Path:
    (root / "exported").write_bytes(content)
    return root / "exported"


@pytest.mark.parametrize("case", ["uint8", "another size", "no batch", "of 0 to 255", "normalised"])
def test_images_that_are_not_the_networks_are_refused(case: str, tmp_path: Path) -> None:
    """Logits of such images would be wrong without a word."""
    folder, _ = trained(photos(tmp_path), [])
    student = load_student(folder.path)
    card = student.card
    images = torch.rand(2, card.channels, card.size, card.size)
    known = student(images)
    assert torch.equal(student(images * 1.0), known)
    wrong, said = {
        "uint8": ((images * 255).byte(), "they are uint8 of shape"),
        "another size": (images.repeat(1, 1, 2, 2), "they are float32 of shape"),
        "no batch": (images[0], "they are float32 of shape"),
        "of 0 to 255": (images * 255, "their values are from"),
        "normalised": ((images - 0.5) / 0.25, "their values are from"),
    }[case]
    with pytest.raises(UserError, match=rf"of values in \[0, 1\].* {said}"):
        student(wrong)
    with pytest.raises(UserError, match=r"the image is a Image; give a file's path, or uint8"):
        student.classify(Image.new("RGB", (8, 8)))  # type: ignore[arg-type]


def test_a_card_without_a_reading_takes_pixels_of_its_size_alone(tmp_path: Path) -> None:
    """So are plugins' datasets, and files that were exported before cards had one."""
    folder, _ = trained(photos(tmp_path), [])
    student = load_student(folder.path)
    file = tmp_path / "c/test/a/0.png"
    pixels, known = student.pixels(file), student.classify(file)
    bare = Student(student.network, dataclasses.replace(student.card, reading=None)).eval()
    assert bare.classify(pixels) == known
    Image.fromarray(pixels).save(tmp_path / "small.png")
    for unknown in (file, tmp_path / "small.png", np.zeros((20, 20, 3), np.uint8)):
        with pytest.raises(UserError, match=r"does not say how its images are read; give pixels"):
            bare.classify(unknown)


def test_every_dataset_of_this_package_says_how_it_reads() -> None:
    for name, entry in registry.catalogue("dataset").items():
        if not entry.is_plugin:
            options = {o.name: o.default for o in entry.options.values() if not o.required}
            found = reading_of({"name": name, "options": options, "size": 4})
            assert found is not None and found.side == 4
            if "size" in entry.meta:
                assert found.size == entry.meta["size"]
    assert reading_of({"name": "a plugin's", "options": {}, "size": None}) is None


@pytest.mark.parametrize("name", ["imagenet", "tiny_imagenet"])
def test_folders_in_their_own_layouts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "data"))
    import layouts

    {"imagenet": layouts.imagenet, "tiny_imagenet": layouts.tiny}[name](tmp_path)
    config = {"name": name, "options": {}, "mean": [0.0] * 3, "size": None, "cache": 40}
    found = base.look(config, tmp_path).test
    assert isinstance(found, base.ImageFiles) and found.reading == reading_of(config)
