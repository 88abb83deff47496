"""MedMNIST from files in its own format, without a network."""

from __future__ import annotations

import hashlib
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wcordbench import registry
from wcordbench.data import base
from wcordbench.data.base import Dataset, listening
from wcordbench.errors import UserError
from wcordbench.suite import Suite

medmnist = pytest.importorskip("medmnist")

FLAGS = {name for name, e in registry.catalogue("dataset").items() if e.file.stem == "medmnist"}


def write(place: Path, flag: str, size: int) -> Path:
    """A small set as published: images ``(N, S, S)`` or ``(N, S, S, 3)``, labels ``(N, 1)``."""
    info = medmnist.INFO[flag]
    classes = len(info["label"])
    rng = np.random.default_rng(size)
    shape = (size, size, 3) if info["n_channels"] == 3 else (size, size)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 2 * classes), ("val", 1), ("test", classes + 1)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint8)[:, None]
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{flag}{'' if size == 28 else f'_{size}'}.npz"
    np.savez(file, **arrays)
    return file


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def trust(monkeypatch: pytest.MonkeyPatch, file: Path, flag: str, size: int) -> None:
    """Take the file for the published one."""
    edition = "" if size == 28 else f"_{size}"
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(medmnist.INFO[flag], f"MD5{edition}", digest)
    monkeypatch.setitem(medmnist.INFO[flag], f"url{edition}", file.as_uri())


def config(flag: str, size: int) -> dict[str, Any]:
    channels = medmnist.INFO[flag]["n_channels"]
    return {
        "name": flag,
        "options": {"image_size": size},
        "size": None,
        "mean": [0.5] * channels,
        "std": [0.5] * channels,
    }


def load(root: Path, flag: str, size: int) -> Dataset:
    return base.load(config(flag, size), root)


def test_what_is_registered_is_what_the_package_says() -> None:
    single = {
        flag
        for flag, info in medmnist.INFO.items()
        if not flag.endswith("3d") and not info["task"].startswith("multi-label")
    }
    assert single == FLAGS
    for flag in FLAGS:
        info, meta = medmnist.INFO[flag], registry.get("dataset", flag).meta
        assert meta["title"] == info["python_class"]
        assert meta["classes"] == len(info["label"])
        assert meta["channels"] == info["n_channels"]
        assert meta["images"] == info["n_samples"]["train"]
        assert meta["preset"] == {"flag": flag}


@pytest.mark.parametrize(
    ("flag", "size"),
    [("pneumoniamnist", 28), ("pneumoniamnist", 224), ("pathmnist", 64), ("retinamnist", 128)],
)
def test_every_edition(
    flag: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    file = write(tmp_path / "medmnist", flag, size)
    trust(monkeypatch, file, flag, size)
    found = load(tmp_path, flag, size)
    meta = registry.get("dataset", flag).meta
    with np.load(file) as arrays:
        for split, images in (("train", found.train), ("test", found.test)):
            want = arrays[f"{split}_images"]
            assert images.pixels.shape == (len(want), size, size, meta["channels"])
            assert np.array_equal(images.pixels.reshape(want.shape), want)
            assert images.labels.tolist() == arrays[f"{split}_labels"][:, 0].tolist()
    assert len(found.classes) == meta["classes"]
    if flag == "pneumoniamnist":
        assert found.classes == ("normal", "pneumonia")


def test_downloaded_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, write(tmp_path / "server", "breastmnist", 28), "breastmnist", 28)
    lines: list[str] = []
    with listening(lines.append):
        found = load(tmp_path / "data", "breastmnist", 28)
        again = load(tmp_path / "data", "breastmnist", 28)
    assert found.fingerprint() == again.fingerprint()
    assert "downloading file://" in lines[0] and lines[1:] == ["breastmnist: downloaded"]
    names = {p.name for p in (tmp_path / "data").rglob("*") if p.is_file()}
    assert names == {"breastmnist.npz", ".breastmnist.lock"}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_partial_file_is_named_and_mended(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = write(tmp_path / "server", "breastmnist", 28)
    file = tmp_path / "data" / "medmnist" / "breastmnist.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes(server.read_bytes()[: int(share * server.stat().st_size)])
    with pytest.MonkeyPatch.context() as patch:

        def urlopen(*args: Any, **kwargs: Any) -> None:
            raise urllib.error.URLError("no route")

        patch.setattr(urllib.request, "urlopen", urlopen)
        with pytest.raises(UserError) as error:
            load(tmp_path / "data", "breastmnist", 28)
        url = medmnist.INFO["breastmnist"]["url"]
        for part in ("damaged or not whole", "(no route)", f"curl -L -o {file} '{url}'"):
            assert part in str(error.value)
    trust(monkeypatch, server, "breastmnist", 28)
    assert len(load(tmp_path / "data", "breastmnist", 28).train.labels) == 4


def test_missing_and_no_network(tmp_path: Path, offline: None) -> None:
    with pytest.raises(UserError, match="is missing and cannot be downloaded") as error:
        load(tmp_path, "octmnist", 224)
    assert "octmnist_224.npz" in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.npz"))


def test_another_file_from_the_server_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "server.html"
    page.write_text("<html>moved</html>")
    monkeypatch.setitem(medmnist.INFO["breastmnist"], "url", page.as_uri())
    with pytest.raises(UserError, match="gave another file than expected"):
        load(tmp_path / "data", "breastmnist", 28)
    assert not list((tmp_path / "data").rglob("*.npz"))


def test_a_planted_link_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a data folder from elsewhere can hold where a download writes."""
    trust(monkeypatch, write(tmp_path / "server", "breastmnist", 28), "breastmnist", 28)
    folder, precious = tmp_path / "data" / "medmnist", tmp_path / "precious"
    folder.mkdir(parents=True)
    precious.write_text("mine")
    (folder / "breastmnist.npz").symlink_to(precious)
    (folder / ".breastmnist.part").symlink_to(precious)
    load(tmp_path / "data", "breastmnist", 28)
    assert precious.read_text() == "mine"
    assert not (folder / "breastmnist.npz").is_symlink()


def test_objects_in_the_file_are_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    file = tmp_path / "medmnist" / "breastmnist.npz"
    file.parent.mkdir()
    np.savez(file, train_images=np.array([{}], dtype=object))
    trust(monkeypatch, file, "breastmnist", 28)
    with pytest.raises(ValueError, match="allow_pickle"):
        load(tmp_path, "breastmnist", 28)


def test_the_package_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = config("breastmnist", 28)
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(UserError, match=r"pip install wcordbench\[medmnist\]"):
        base.load(wanted, tmp_path)


def test_a_suite_is_checked_without_the_data() -> None:
    suite: dict[str, Any] = {
        "name": "x",
        "dataset": {"name": "pneumoniamnist", "mean": [0.5], "std": [0.5]},
        "train": {
            "epochs": 1, "batch_size": 8, "learning_rate": 0.1, "schedule": {"type": "one_cycle"},
        },
        "seeds": [0],
        "pairs": [{"teacher": "resnet14", "student": "resnet8"}],
        "methods": ["kd"],
    }  # fmt: skip
    assert Suite.model_validate(suite).dataset.resolved_options() == {"image_size": 28}
    suite["dataset"]["options"] = {"image_size": 32}
    with pytest.raises(ValueError, match="28, 64, 128 or 224"):
        Suite.model_validate(suite)
    suite["dataset"] = {"name": "pathmnist", "mean": [0.5], "std": [0.5]}
    with pytest.raises(ValueError, match="pathmnist has 3 channels"):
        Suite.model_validate(suite)
