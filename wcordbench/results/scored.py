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


__all__ = ["TEST", "scored_on"]
