"""What a dataset's fingerprint is made of, and which of them are of different images.

A run that trains on squares has the fingerprint of the dataset's squares. One that cuts from whole
images has that of the squares, which it is tested on, and of the whole training images after a
dash: pixels outside the squares are trained on as well.
"""

from __future__ import annotations

from collections.abc import Iterable


def joined(squares: str, whole: str) -> str:
    """The fingerprint of a run that cuts from whole images, of the digests of both."""
    return f"{squares}-{whole}"


def of_squares(fingerprint: str) -> str:
    """The part that is of the images at the dataset's size."""
    return fingerprint.partition("-")[0]


def of_whole(fingerprint: str) -> str | None:
    """The part that is of the whole training images; None where the run trained on squares."""
    return fingerprint.partition("-")[2] or None


def distinct(fingerprints: Iterable[str]) -> set[str]:
    """Fingerprints of which no two can be of the same images.

    That of the squares alone is left out where one with the same squares is among them.
    """
    every = set(fingerprints)
    return every - {of_squares(each) for each in every if of_whole(each)}


__all__ = ["distinct", "joined", "of_squares", "of_whole"]
