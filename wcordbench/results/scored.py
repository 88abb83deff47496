"""Which images a run's scores are of."""

from __future__ import annotations

from typing import Any

TEST = "test images"


def scored_on(config: dict[str, Any]) -> str:
    """The test images, or the training images that the suite held out (``dataset.holdout``).

    Args:
        config: of a run.
    """
    held: int | None = config["dataset"].get("holdout")
    return TEST if held is None else f"{held:,} held-out training images"


def trained_on(config: dict[str, Any]) -> str:
    """The dataset of a run as it saw it: the task and the images' side, where they are given.

    Args:
        config: of a run.
    """
    dataset = config["dataset"]
    size = (config.get("view") or {}).get("size") or dataset.get("size")
    parts = [str(dataset["name"])]
    if "task" in dataset:
        groups = dataset["task"].get("groups")
        parts.append(f"in {len(groups)} groups" if groups else "in two, some against the others")
    if size:
        parts.append(f"at {size} pixels")
    return " ".join(parts)


__all__ = ["TEST", "scored_on", "trained_on"]
