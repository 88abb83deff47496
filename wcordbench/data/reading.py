"""How the images of a stored run were read, told by its configuration alone."""

from __future__ import annotations

from typing import Any

from wcordbench import registry
from wcordbench.data.decode import Reading


def reading_of(config: dict[str, Any]) -> Reading | None:
    """What became of a decoded image before the run's view of it.

    The loaders of this package call an image's side ``image_size``, or say it as the dataset's
    ``size``; ``resize`` and ``grayscale`` are :class:`Reading`'s. Datasets that come as arrays are
    read as their sides say.

    Args:
        config: the ``dataset`` part of a run's configuration.

    Returns:
        None for a plugin's dataset: only its code says how it reads.
    """
    entry = registry.catalogue("dataset").get(config["name"])
    if entry is None or entry.is_plugin:
        return None
    options = {o.name: o.default for o in entry.options.values()} | config["options"]
    return Reading(
        options.get("image_size") or entry.meta["size"],
        options.get("resize"),
        options.get("grayscale", False),
        config.get("cache"),
        config["size"],
    )


__all__ = ["reading_of"]
