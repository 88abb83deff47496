"""Checks that need the networks' shapes: still no weights, no data, no training."""

from __future__ import annotations

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.suite.schema import Suite


def check_shapes(suite: Suite) -> list[str]:
    """Build every network of the suite without memory and see what it makes of the images.

    Returns:
        One sentence for each method that is undefined for a pair ("N/A" in the table).

    Raises:
        UserError: an architecture cannot take the images' size.
    """
    import torch  # only here: reading and expanding a suite must not need it

    from wcordbench import models
    from wcordbench.methods.base import Setup
    from wcordbench.training.objective import undefined

    meta = registry.get("dataset", suite.dataset.name).meta
    options = suite.dataset.options
    size = suite.dataset.size or meta.get("size") or options.get("image_size", 32)
    if meta.get("size") and size > meta["size"]:
        raise UserError(
            f"dataset {suite.dataset.name!r} has images of {meta['size']} pixels, dataset.size"
            f" asks for {size}; choose at most {meta['size']}"
        )
    classes = meta.get("classes", 100)
    channels = len(suite.dataset.mean)
    notes = []
    for pair in suite.pairs:
        student = models.feature_shapes(pair.student, classes, size, channels)
        teacher = models.feature_shapes(pair.teacher.model, classes, size, channels)
        setup = Setup(student, teacher, classes, torch.arange(classes))
        for method in suite.methods:
            terms = [t.model_dump() for t in method.terms()]
            reason = undefined({"terms": terms}, setup)
            if reason:
                notes.append(f"{method.title} on {pair.name}: N/A ({reason})")
    return notes
