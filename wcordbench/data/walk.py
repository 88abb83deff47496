"""Which files of a folder are images of which class, and what is there beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wcordbench.errors import UserError

#: those of torchvision's ``ImageFolder``
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
CACHE = ".wcordbench-cache"


@dataclass
class Walk:
    """Looks through folders of images; what it does not take it counts.

    Args:
        base: the dataset's folder.
        what: how messages name the dataset.
        follow_links: whether links may lead out of ``base``.
        skipped: what was not taken so far, by kind.
    """

    base: Path
    what: str
    follow_links: bool = False
    skipped: Counter[str] = field(default_factory=Counter)

    def classes(self, folder: Path) -> list[str]:
        """Names of the class folders: numbers in their order, others as text.

        Raises:
            UserError: the folder cannot be read, or has fewer than two.
        """
        names = []
        for name, entry in self._list(folder):
            if entry.is_dir():
                names.append(name)
            else:
                self._skip(name)
        if len(names) < 2:
            raise UserError(
                f"{self.what}: {folder} has {len(names)} class folders; at least 2 are needed"
            )
        return in_order(names)

    def images(self, folder: Path) -> list[str]:
        """Paths of the images below a folder, relative to it, in torchvision's order.

        That is by the folder that holds them, then by name.
        """
        found = sorted(self._walk(folder, "", ()))
        return [f"{below}/{name}".removeprefix("/") for below, name in found]

    def _walk(self, folder: Path, below: str, above: tuple[Path, ...]) -> Iterator[tuple[str, str]]:
        here = folder.resolve()
        if here in above:
            raise UserError(f"{self.what}: {folder} is a link to a folder around it; remove it")
        deeper = []
        for name, entry in self._list(folder):
            if entry.is_dir():
                deeper.append(name)
            elif not entry.is_file():  # reading a pipe would wait for ever
                self.skipped["not a file"] += 1
            elif Path(name).suffix.lower() in SUFFIXES:
                yield below, name
            else:
                self._skip(name)
        for name in deeper:
            deep = f"{below}/{name}".removeprefix("/")
            yield from self._walk(folder / name, deep, (*above, here))

    def _skip(self, name: str) -> None:
        self.skipped[Path(name).suffix.lower() or "without a suffix"] += 1

    def _list(self, folder: Path) -> list[tuple[str, os.DirEntry[str]]]:
        """The entries of a folder by name; hidden ones are counted and left out.

        Raises:
            UserError: the folder cannot be read, or it or an entry is a link that leaves
                ``base`` (a dataset from elsewhere must not read other files) or leads nowhere.
        """
        try:
            with os.scandir(folder) as entries:
                every = sorted((e.name, e) for e in entries)
            found = [(name, entry) for name, entry in every if not name.startswith(".")]
            self.skipped["hidden"] += sum(
                name.startswith(".") and name != CACHE for name, _ in every
            )
            links = [Path(e.path) for _, e in found if e.is_symlink()]
            base = self.base.resolve()
            for link in [folder, *links]:
                end = link.resolve(strict=True)
                if not (self.follow_links or end.is_relative_to(base)):
                    raise UserError(
                        f"{self.what}: {link} is a link that leaves {self.base}; write"
                        " 'follow_links: true' in dataset.options if it is meant, or copy what it"
                        " points to"
                    )
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            where = getattr(error, "filename", None) or folder
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"{self.what}: {where} cannot be read ({reason}); correct or remove it"
            ) from None
        return found

    def remark(self, folder: Path) -> str | None:
        """What was not taken so far, in one sentence."""
        count = sum(self.skipped.values())
        if not count:
            return None
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.skipped.items()) if n)
        return (
            f"{self.what}: {count} file{'s' * (count != 1)} of {folder} not read ({kinds}); images"
            f" end in {', '.join(sorted(SUFFIXES))}"
        )


def in_order(names: list[str]) -> list[str]:
    """Class names as labels number them: by value where all are whole numbers, else as text."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
