"""Tiny ImageNet and ImageNet as they unpack, and the commands that look at a dataset."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.layouts import WNIDS, imagenet, picture, tiny
from wcordbench.cli.main import main
from wcordbench.data import base, index
from wcordbench.data.base import Dataset, ImageFiles, listening
from wcordbench.errors import UserError


def load(name: str, root: Path, **options: Any) -> tuple[Dataset, list[str]]:
    config = {"name": name, "options": options, "mean": [0.5] * 3, "std": [0.5] * 3, "size": None}
    lines: list[str] = []
    with listening(lines.append):
        return base.load(config, root), lines


def brightness(dataset: Dataset) -> None:
    """Every image is of the class that its brightness says."""
    for split in (dataset.train, dataset.test):
        pixels = np.concatenate(list(split.chunks()))
        assert ((pixels.mean((1, 2, 3)) // 70).astype(int) == split.labels).all()


def test_tiny_imagenet_in_its_native_layout(tmp_path: Path) -> None:
    tiny(tmp_path)
    dataset, lines = load("tiny_imagenet", tmp_path)
    assert dataset.classes == WNIDS
    assert dataset.train.shape == (24, 64, 64, 3) and dataset.test.shape == (12, 64, 64, 3)
    brightness(dataset)
    assert len(lines) == 1 and "3 classes, 24 training and 12 test images, not 200" in lines[0]


def test_tiny_imagenet_with_class_folders_of_validation_images(tmp_path: Path) -> None:
    place = tiny(tmp_path)
    want = load("tiny_imagenet", tmp_path)[0].fingerprint()
    for i in range(12):
        folder = place / "val" / WNIDS[i % 3]
        folder.mkdir(exist_ok=True)
        shutil.move(place / f"val/images/val_{i}.JPEG", folder)
    (place / "val/images").rmdir()
    (place / "val/val_annotations.txt").unlink()
    assert load("tiny_imagenet", tmp_path)[0].fingerprint() == want
    place.rename(tmp_path / "elsewhere")
    assert load("tiny_imagenet", Path("/none"), folder=str(tmp_path / "elsewhere"))[0]


@pytest.mark.parametrize("val", ["folders", "devkit", "kaggle"])
def test_imagenet_with_and_without_its_kit(tmp_path: Path, val: str) -> None:
    imagenet(tmp_path, val)
    dataset, _ = load("imagenet", tmp_path, image_size=24, resize=28)
    assert dataset.classes == WNIDS
    assert dataset.train.shape == (24, 24, 24, 3) and dataset.test.shape == (12, 24, 24, 3)
    brightness(dataset)


def refused(name: str, root: Path, *parts: str) -> None:
    with pytest.raises(UserError) as error:
        load(name, root, **({"image_size": 24} if name == "imagenet" else {}))
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    refused("tiny_imagenet", tmp_path, "tiny-imagenet-200/train does not exist", "unpack")
    refused("imagenet", tmp_path, "imagenet/train does not exist", "unpack")
    place = tiny(tmp_path)
    annotations = place / "val/val_annotations.txt"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join(lines[1:]))
    refused("tiny_imagenet", tmp_path, "val_annotations.txt does not say the class", "val_0.JPEG")
    annotations.write_text("\n".join([*lines[1:], "val_0.JPEG\tn09999999"]))
    refused("tiny_imagenet", tmp_path, "n09999999", "training images do not have")
    annotations.write_text("no tabs")
    refused("tiny_imagenet", tmp_path, "is damaged")
    kept = [line for line in lines if WNIDS[2] not in line]
    annotations.write_text("\n".join(kept))
    for i in range(2, 12, 3):
        (place / f"val/images/val_{i}.JPEG").unlink()
    refused("tiny_imagenet", tmp_path, f"class '{WNIDS[2]}' is in the training images and not")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\tx\n", b'ImageId,PredictionString\n"' + b"x" * 200_000, None]
)
@pytest.mark.parametrize("name", ["tiny_imagenet", "imagenet"])
def test_a_damaged_file_of_labels_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "imagenet":
        file = imagenet(tmp_path, "kaggle") / "LOC_val_solution.csv"
    else:
        file = tiny(tmp_path) / "val/val_annotations.txt"
    if content is None:

        def refuse(*_: Any) -> str:
            raise PermissionError(13, "Permission denied", str(file))

        monkeypatch.setattr(Path, "read_text", refuse)
    else:
        file.write_bytes(content)
    reason = "is damaged;" if content is not None else "cannot be read (Permission denied);"
    refused(name, tmp_path, f"{name}: {file} {reason}", "again")


@pytest.mark.parametrize("val", ["devkit", "kaggle"])
@pytest.mark.parametrize("linked", [False, True])
def test_labels_beside_the_folder_are_asked_of_the_file_system_too(
    tmp_path: Path, val: str, linked: bool
) -> None:
    root = tmp_path / "data"
    place = imagenet(root, val)
    labels = place / {"devkit": "ILSVRC2012_devkit_t12", "kaggle": "LOC_val_solution.csv"}[val]
    if val == "kaggle":  # its folders lie deeper, and the table beside the dataset's
        truth = beside = labels.rename(root / labels.name)
    else:
        beside = labels.rename(root / labels.name)
        truth = beside / "data/ILSVRC2012_validation_ground_truth.txt"
    if linked:
        (tmp_path / "disk").mkdir()
        (root / "imagenet").rename(tmp_path / "disk/imagenet")
        (root / "imagenet").symlink_to(tmp_path / "disk/imagenet")
    config: dict[str, Any] = {
        "name": "imagenet", "mean": [0.5] * 3, "std": [0.5] * 3, "size": None,
        "options": {
            "folder": "imagenet", "image_size": 24, "resize": 28, "follow_links": linked,
        },
    }  # fmt: skip
    before = base.fingerprinted(config, root)[1]
    assert index.known(config, root) == before
    lines = truth.read_text().splitlines()
    if val == "kaggle":
        names, classes = zip(*(line.split(",") for line in lines[1:]), strict=True)
        pairs = zip(names, (*classes[1:], classes[0]), strict=True)
        lines[1:] = [",".join(pair) for pair in pairs]
    else:
        lines = [*lines[1:], lines[0]]
    truth.write_text("\n".join(lines) + "\n")
    assert index.known(config, root) is None
    assert base.fingerprinted(config, root)[1] not in (before, None)
    assert beside.exists()


def test_a_validation_set_without_classes_is_refused(tmp_path: Path) -> None:
    place = imagenet(tmp_path, "devkit")
    kit = place / "ILSVRC2012_devkit_t12"
    (kit / "data/meta.mat").write_bytes(b"damaged")
    refused("imagenet", tmp_path, "is damaged", "unpack")
    shutil.rmtree(kit)
    refused("imagenet", tmp_path, "nothing says their classes", "ILSVRC2012_devkit_t12.tar.gz")
    shutil.rmtree(place)
    imagenet(tmp_path)
    shutil.rmtree(place / "val" / WNIDS[1])
    refused("imagenet", tmp_path, f"class '{WNIDS[1]}' is in only one of train and val")


# --- the commands -----------------------------------------------------------------------

SUITE = """
name: tiny
dataset: {name: tiny_imagenet, title: Fish and newts, mean: [0.5, 0.5, 0.5], std: [0.3, 0.3, 0.3]}
train:
  epochs: 1
  batch_size: 12
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 4, flip: true}
seeds: [0]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student]
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    tiny(tmp_path / "data")
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path / "s.yaml"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., tuple[int, str, str]]:
    def call(*words: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wcordbench", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.mark.parametrize("memory", ["auto", "1e-9"])
def test_data_describes_and_prints_what_to_paste(
    suite: Path, command: Callable[..., tuple[int, str, str]], memory: str
) -> None:
    place = suite.parent / "data"
    code, out, err = command("data", suite, "--data", place, "--set", f"dataset.memory={memory}")
    assert code == 0 and "a part of Tiny ImageNet" in err
    dataset = load("tiny_imagenet", place)[0]
    for part in (
        "Fish and newts", "3 (n01443537, n01629819, n01641577)", "24 images, 8 of each class",
        "12 images, 4 of each class", "64×64 pixels, 3 channels", dataset.fingerprint(),
        "held in memory" if memory == "auto" else "streamed",
    ):  # fmt: skip
        assert part in out
    pasted = dict(
        line.split(": ", 1) for line in out.splitlines() if line.startswith(("mean", "std"))
    )
    values = dataset.train.pixels / 255
    for key, found in (("mean", values.mean((0, 1, 2))), ("std", values.std((0, 1, 2)))):
        assert pasted[key] == "[" + ", ".join(f"{x:.4f}" for x in found) + "]"


@pytest.mark.parametrize(
    ("more", "way"),
    [
        (["train.augment={crop_padding: 0, transforms: [TRANSFORM]}"], "decoded, streamed"),
        (["train.augment.crop_padding=0",
          "pairs.0.train={augment: {transforms: [TRANSFORM]}}"],
         "held in memory, and streamed for training that cuts from whole images"),
    ],
)  # fmt: skip
def test_data_says_that_whole_images_are_streamed(
    suite: Path, command: Callable[..., tuple[int, str, str]], more: list[str], way: str
) -> None:
    """As the results of such training say."""
    crop = "{name: random_resized_crop, whole: true}"
    words = [word for text in more for word in ("--set", text.replace("TRANSFORM", crop))]
    code, out, err = command("data", suite, "--data", suite.parent / "data", *words)
    assert code == 0, err
    assert way in out
    found = [line.split()[1] for line in out.splitlines() if line.startswith("fingerprint:")]
    assert [("-" in each) for each in found] == ([False, True] if "memory" in way else [True])


def test_validate_looks_at_the_data_where_it_is_asked(
    suite: Path, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ImageFiles, "whole")  # nothing is decoded
    code, out, _ = command("validate", suite, "--data", suite.parent / "data")
    assert code == 0 and "24 images, 8 of each class" in out and "is valid" in out
    code, _, err = command("validate", suite, "--data", suite.parent / "nowhere")
    assert code == 2 and "does not exist" in err and err.count("\n") == 1
    assert command("validate", suite)[0] == 0


def test_run_finds_a_wrong_folder_before_it_writes(
    suite: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    place = suite.parent / "data/tiny-imagenet-200"
    shutil.rmtree(place / "train" / WNIDS[0])
    code, out, err = command(
        "run", suite, "--data", suite.parent / "data", "--results", suite.parent / "out"
    )
    assert code == 2 and "training images do not have" in err and "training 1 run" not in out + err
    assert not (suite.parent / "out/runs").exists()
    assert picture is not None
