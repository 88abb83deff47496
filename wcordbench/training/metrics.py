"""Area under the ROC curve of a network's scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wcordbench.errors import UserError


def check_auc(labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """Refuse test labels that AUC is undefined for, before anything is trained.

    Raises:
        UserError: there are fewer than two classes, or one has no test image.
    """
    if len(classes) < 2:
        raise UserError(
            f"metric auc is undefined: the task has {len(classes)} class"
            "; give at least two, or choose metric top1"
        )
    counts = np.bincount(labels, minlength=len(classes))
    if not counts.all():
        name = classes[int(counts.argmin())]
        raise UserError(
            f"metric auc is undefined: the test set has no image of class {name!r}; add some,"
            " change task, or choose metric top1"
        )


def auc(labels: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """AUC in percent, ties counted as one half.

    Args:
        labels: ``(N,)``, from 0 to K − 1, every class at least once.
        logits: ``(N, K)``.

    Returns:
        For two classes the AUC of the difference of the logits (class 1 is positive); for
        more, the unweighted mean over classes of each against the rest, by its softmax
        probability.
    """
    from sklearn.metrics import roc_auc_score

    if logits.shape[1] == 2:
        scores = logits[:, 1].astype(np.float64) - logits[:, 0]
        return 100 * float(roc_auc_score(labels, scores))
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    return 100 * float(
        roc_auc_score(
            labels, probabilities, multi_class="ovr", average="macro",
            labels=np.arange(logits.shape[1]),
        )
    )  # fmt: skip
