"""PatchCamelyon (Veeling et al., MICCAI 2018): is there tumour in this patch of tissue?"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wcordbench.data.base import Dataset, Images
from wcordbench.data.fetch import is_whole, why
from wcordbench.data.notes import alone, may_download, say, warn
from wcordbench.errors import UserError
from wcordbench.options import Annotated, Interval
from wcordbench.registry import register_dataset

SIDE = 96


@register_dataset(
    "pcam", title="PatchCamelyon", classes=2, size=96, channels=3, images=262144, reads=("pcam",)
)
def pcam(root: Path, *, images: Annotated[int, Interval(ge=1, le=262144)] = 262144) -> Dataset:
    """262,144 training and 32,768 test patches of 96×96 pixels, from ``root/pcam``.

    The files are torchvision's, downloaded on first use; the validation images are left out.

    Args:
        root: the folder that holds datasets.
        images: how many training images to take, the first ones of the file: all take
            7.2 GB, and while batches are prepared their padded copy as much again.

    Raises:
        UserError: h5py is missing, or a file is missing or damaged and cannot be downloaded.
    """
    if images < 1:
        raise UserError(f"pcam: images is {images}; take at least 1")
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise UserError(
            "dataset 'pcam' needs the h5py package; install it with 'pip install wcordbench[pcam]'"
        ) from None
    folder = root / "pcam"
    train, test = _split(folder, "train", images), _split(folder, "test", None)
    return Dataset(train, test, ("normal", "tumor"))


def _split(folder: Path, split: str, most: int | None) -> Images:
    pixels = _array(_file(folder, split, "images"), "x", (SIDE, SIDE, 3), most)
    labels = _array(_file(folder, split, "targets"), "y", (1, 1, 1), most).reshape(-1)
    if len(pixels) != len(labels):
        raise UserError(
            f"pcam: {folder} holds {len(pixels)} {split} images and {len(labels)} labels of them;"
            " delete both files and run again to fetch them anew"
        )
    return Images(pixels, labels.astype(np.int64))


def _file(folder: Path, split: str, kind: str) -> Path:
    """One of torchvision's files, unpacked.

    Raises:
        UserError: it is not there and cannot be downloaded.
    """
    from torchvision.datasets import PCAM
    from torchvision.datasets.utils import download_file_from_google_drive

    name, identity, md5 = PCAM._FILES[split][kind]
    file: Path = folder / name
    archive = folder / f"{name}.gz"
    try:
        with alone(folder / f".{name}.lock"):
            if file.is_file():
                if _is_ours(file, md5):
                    return file
                if not is_whole(archive, md5):
                    warn(
                        f"pcam: {file.name} was unpacked by other means, so that nothing says"
                        f" whether it is the published file; put {archive.name} beside it"
                    )
                    return file
            if not is_whole(archive, md5):
                if not may_download():
                    raise RuntimeError("not now")
                say(f"pcam: downloading {archive.name} (the training images are 6.4 GB)")
                download_file_from_google_drive(identity, str(folder), archive.name, md5)
            say(f"pcam: unpacking {archive.name}, once")
            _unpack(archive, file)
            _marker(file).write_text(f"{md5} {file.stat().st_size}")
    except Exception as error:  # gdown raises of many kinds
        raise UserError(
            f"pcam: {file} is missing and cannot be downloaded ({why(error)}); run again with a"
            f" network, or put {archive.name} of https://github.com/basveeling/pcam into {folder}"
        ) from None
    return file


def _marker(file: Path) -> Path:
    return file.with_name(f".{file.name}.whole")


def _is_ours(file: Path, md5: str) -> bool:
    """Whether it was unpacked here, from the archive of this checksum."""
    try:
        return _marker(file).read_text() == f"{md5} {file.stat().st_size}"
    except (OSError, ValueError):
        return False


def _unpack(archive: Path, file: Path) -> None:
    """Write what a gzip file holds; it appears under its name only when it is whole."""
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with gzip.open(archive) as packed, part.open("xb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 24)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _array(file: Path, key: str, shape: tuple[int, ...], most: int | None) -> NDArray[Any]:
    """The first rows of an array ``(N, *shape)`` of uint8 in an HDF5 file.

    Raises:
        UserError: the file is damaged or holds another array, or leads to another file.
    """
    import h5py

    try:
        with h5py.File(file, "r") as content:
            # HDF5 can point to arrays and to bytes in any other file.
            if not isinstance(content.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{key} is not in it")
            array = content[key]
            if array.external or array.is_virtual:
                raise ValueError(f"{key} is not in it")
            if array.shape[1:] != shape or array.dtype != np.uint8:
                raise ValueError(f"{key} is {array.dtype} {array.shape}, not uint8 (N, {shape})")
            return np.asarray(array[:most])
    except (OSError, KeyError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"pcam: {file} is damaged or another file ({why(error)}); delete it and run again to"
            " fetch it anew"
        ) from None
