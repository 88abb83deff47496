"""The size of a network, and the images that a run's networks see; without torch."""

from __future__ import annotations

from typing import NamedTuple

from wcordbench import registry
from wcordbench.results.store import Store
from wcordbench.suite.runs import Run


class Size(NamedTuple):
    """What a network holds and does.

    Attributes:
        parameters: numbers that the prediction goes through.
        macs: multiply-accumulates of one image.
    """

    parameters: int
    macs: int

    def __str__(self) -> str:
        """Both in millions."""
        return f"{self.parameters / 1e6:.2f}M / {self.macs / 1e6:.1f}M"


def images_of(run: Run, store: Store) -> tuple[int, int, int] | None:
    """Classes, side in pixels and channels of a run's images, from its result or its dataset.

    None where neither says all of them.
    """
    folder, dataset = store.folder(run), run.config["dataset"]
    channels = len(dataset["mean"])
    if folder.state == "done" and (known := folder.result(best=False).get("images")):
        return len(known["classes"]), int(known["size"]), int(known["channels"])
    meta, task = registry.get("dataset", dataset["name"]).meta, dataset.get("task")
    classes = meta.get("classes")
    if task:
        classes = 2 if task.get("positive") else len(task["groups"])
    size = dataset.get("size") or meta.get("size") or dataset["options"].get("image_size")
    return None if classes is None or not size else (int(classes), int(size), channels)


__all__ = ["Size", "images_of"]
