"""A finished run belongs to its images: other ones are refused, the same ones elsewhere are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wcordbench.cli.main import app
from wcordbench.data import base as data
from wcordbench.data import index
from wcordbench.errors import UserError
from wcordbench.results.images import compare_images
from wcordbench.results.store import Store
from wcordbench.suite import Run, expand, load_suite

SUITE = """
name: grain
dataset:
  {name: imagefolder, options: {folder: grains, image_size: 8}, mean: [0, 0, 0], std: [1, 1, 1]}
train: {epochs: 1, batch_size: 4, learning_rate: 0.05, schedule: {type: one_cycle}}
seeds: [0, 1]
pairs: [{teacher: resnet14, student: resnet8}]
methods: [student]
"""


def scans(root: Path, seed: int = 0) -> Path:
    """Two classes of four images a split."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in ("wheat", "rye"):
            folder = root / "grains" / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    (tmp_path / "grain.yaml").write_text(SUITE)
    return list(dict.fromkeys(c.run for c in expand(load_suite(tmp_path / "grain.yaml"))))


@pytest.fixture
def store(tmp_path: Path, runs: list[Run]) -> Store:
    """All runs finished on the images of ``here``."""
    store, root = Store(tmp_path / "results"), scans(tmp_path / "here")
    fingerprint = data.load(runs[0].config["dataset"], root).fingerprint()
    for run in runs:
        store.folder(run).begin(run)
        store.folder(run).finish(
            {
                "id": run.id, "config": run.config, "dataset_fingerprint": fingerprint,
                "scores": {"top1": 50.0, "top5": 100.0, "best_top1": 50.0},
            }
        )  # fmt: skip
    return store


def test_other_images_under_the_same_name_are_refused(
    store: Store, runs: list[Run], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        compare_images(runs, store, scans(tmp_path / "there", seed=1))
    said = str(raised.value)
    assert said.startswith("3 finished runs in ")
    assert "not of the images that dataset 'imagefolder' holds in" in said
    assert "--data" in said and "--results" in said


def test_the_same_images_elsewhere_are_the_same(
    store: Store, runs: list[Run], tmp_path: Path
) -> None:
    assert compare_images(runs, store, tmp_path / "here") == []
    (tmp_path / "here").rename(tmp_path / "renamed")
    assert compare_images(runs, store, tmp_path / "renamed") == []
    shutil.copytree(tmp_path / "renamed", tmp_path / "copied")
    assert compare_images(runs, store, tmp_path / "copied") == []


@pytest.mark.parametrize("how", ["one pixel", "old times", "swapped classes", "one image less"])
def test_a_change_is_noticed_whatever_its_time_says(
    how: str, store: Store, runs: list[Run], tmp_path: Path
) -> None:
    assert compare_images(runs, store, tmp_path / "here") == []
    train = tmp_path / "here/grains/train"
    file = train / "rye/0.png"
    before = file.stat()
    time.sleep(0.02)  # the file system's clock ticks
    if how == "one image less":
        file.unlink()
    elif how == "swapped classes":
        (train / "rye").rename(train / "x")
        (train / "wheat").rename(train / "rye")
        (train / "x").rename(train / "wheat")
    else:
        pixels = np.asarray(Image.open(file)).copy()
        pixels[0, 0, 0] ^= 128
        Image.fromarray(pixels).save(file)
        if how == "old times":
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="finished runs"):
        compare_images(runs, store, tmp_path / "here")


def test_images_are_read_once(
    store: Store, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare_images(runs, store, tmp_path / "here")
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("read again"))
    assert compare_images(runs, store, tmp_path / "here") == []


def test_a_damaged_index_is_not_asked(store: Store, runs: list[Run], tmp_path: Path) -> None:
    compare_images(runs, store, tmp_path / "here")
    for text in ("{", "[]", '{"x": 3}'):
        index._file().write_text(text)
        assert compare_images(runs, store, tmp_path / "here") == []


def test_a_cache_that_cannot_be_written_costs_time_alone(
    store: Store, runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compare_images(runs, store, tmp_path / "here") == []


def test_without_the_images_finished_runs_stay_finished_and_that_is_said(
    store: Store, tmp_path: Path
) -> None:
    given = ["run", str(tmp_path / "grain.yaml"), "--results", str(store.root)]
    done = CliRunner().invoke(app, [*given, "--data", str(tmp_path / "nowhere")])
    assert done.exit_code == 0, done.output
    assert "all 2 runs done" in done.output
    assert "cannot be read here, so that 2 finished runs could not be compared" in done.output


def test_the_command_refuses_other_images(store: Store, tmp_path: Path) -> None:
    other = scans(tmp_path / "there", seed=1)
    before = {p: p.stat().st_mtime_ns for p in store.root.rglob("*")}
    arguments = ["run", str(tmp_path / "grain.yaml"), "--results", str(store.root), "--data"]
    done = CliRunner().invoke(app, [*arguments, str(other)])
    assert isinstance(done.exception, UserError)
    assert {p: p.stat().st_mtime_ns for p in store.root.rglob("*")} == before


def test_a_known_dataset_is_compared_without_torch(store: Store, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from wcordbench.results.images import compare_images\n"
        "from wcordbench.results.store import Store\n"
        "from wcordbench.suite import expand, load_suite\n"
        f"runs = [c.run for c in expand(load_suite({str(tmp_path / 'grain.yaml')!r}))]\n"
        f"compare_images(runs, Store({str(store.root)!r}), Path({str(tmp_path / 'here')!r}))\n"
        "print('torch' in sys.modules)"
    )
    shown = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
             for _ in range(2)]  # fmt: skip
    assert shown[1] == "False\n", shown
