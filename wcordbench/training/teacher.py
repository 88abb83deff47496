"""A teacher before it teaches: its weights, and what one that is given as a file is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wcordbench.data.base import Dataset, alone
from wcordbench.data.batches import TestBatches
from wcordbench.data.fingerprints import of_squares
from wcordbench.data.index import fingerprint_of
from wcordbench.data.views import View
from wcordbench.errors import UserError
from wcordbench.results import teachers
from wcordbench.results.groups import or_order
from wcordbench.results.store import Store
from wcordbench.results.taught import check_weights
from wcordbench.suite.runs import Run
from wcordbench.suite.transforms import cuts_whole
from wcordbench.training.evaluation import evaluate

_WORDS = {"top1": "top-1 accuracy", "auc": "AUC"}


def weights_of_teacher(
    run: Run, store: Store, fingerprint: str, data_root: Path
) -> tuple[Path, str | None, str]:
    """The file of a run's teacher, the SHA-256 that it must have, and the remedy for another.

    Args:
        run: the student's.
        store: where the teacher is.
        fingerprint: of the run's images.
        data_root: the folder that holds datasets.

    Raises:
        UserError: the teacher was trained on other images, or its weights are missing.
    """
    if run.teacher is not None:
        folder = store.folder(run.teacher)
        record = folder.result()
        path, expected = folder.path / "student.pt", record.get("weights_sha256")
        remedy = f"delete {folder.path} to train the teacher again"
        whole = cuts_whole(run.teacher.config["train"])
        if whole != cuts_whole(run.config["train"]):  # then the fingerprints are of other parts
            fingerprint = fingerprint_of(run.config["dataset"], data_root, whole)
        if record.get("dataset_fingerprint", fingerprint) != fingerprint:
            raise UserError(
                f"dataset {run.config['dataset']['name']!r} holds other images than when"
                f" {folder.path.name}, the teacher, was trained{or_order(run.config)}; put back"
                f" what was there, or {remedy}"
            )
        check_weights(folder)
        return path, expected, remedy
    if run.checkpoint is None:
        raise ValueError(f"{run.name} has a teacher that is neither a run nor a checkpoint")
    expected = run.config["teacher"]["checkpoint"]
    return Path(run.checkpoint), expected, "run again if the new file is meant"


def measure_teacher(
    model: nn.Module,
    runs: list[Run],
    store: Store,
    dataset: Dataset,
    fingerprint: str,
    device: torch.device,
    note: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> dict[str, float]:
    """What a teacher reaches on the test images, in fp32; evaluated once for a results folder.

    Args:
        model: the teacher with its weights, on the device.
        runs: that it is about to teach.
        store: where its scores are kept.
        dataset: whose test images count, as the teacher sees them.
        fingerprint: of the run's images; of it the squares count.
        device: where the model is.
        note: told the scores when they have just been measured.
        should_stop: asked between batches.

    Returns:
        ``top1``, ``top5`` and, where the runs are measured by it, ``auc``, in percent.

    Raises:
        UserError: the teacher is no better than chance, and the suite does not say that this is
            meant.
        StoppedError: ``should_stop`` said so.
    """
    config = runs[0].config
    path = Path(runs[0].checkpoint or "")
    by = "auc" if config.get("metric") == "auc" else "top1"
    fingerprint = of_squares(fingerprint)  # all that a teacher is measured on
    with alone(store.root / teachers.FOLDER / ".lock"):
        record = teachers.read(store, config)
        if record is None or record["dataset_fingerprint"] != fingerprint:
            scores = _scores(model, config, dataset, device, should_stop, by == "auc")
            teachers.write(store, config, scores, fingerprint, path.name)
            note(
                f"teacher {path} ({config['teacher']['model']}): {scores[by]:.2f}% {_WORDS[by]} on"
                " the test images"
            )
        else:
            scores = record["scores"]
    bound = chance(dataset.test.labels, len(dataset.classes), by)
    if scores[by] <= bound and not any(run.allow_chance for run in runs):
        raise UserError(
            f"teacher {path} ({config['teacher']['model']}) has {scores[by]:.2f}% {_WORDS[by]} on"
            f" the test images, and guessing reaches {bound:.2f}%: its classes may be in another"
            " order, its images normalised otherwise (see views.teacher) or its weights untrained;"
            " correct that, or write 'allow_chance: true' beside its checkpoint"
        )
    return dict(scores)


def _scores(
    model: nn.Module,
    config: dict[str, Any],
    dataset: Dataset,
    device: torch.device,
    should_stop: Callable[[], bool],
    auc: bool,
) -> dict[str, float]:
    mean, std = config["dataset"]["mean"], config["dataset"]["std"]
    view = View(config["teacher"].get("view"), dataset.test.shape[1], mean, std, device)
    test = TestBatches(dataset.test, mean, std, device, view)
    found = evaluate(model, test, "fp32", device, should_stop, auc=auc)
    scores = {key: found[f"test_{key}"] for key in ("top1", "top5")}
    if auc:  # left out where a logit is not finite: then nothing is told apart
        scores["auc"] = found.get("test_auc", 50.0)
    return scores


def chance(labels: NDArray[np.int64], classes: int, metric: str) -> float:
    """The score up to which a network may be guessing, in percent.

    Always naming the largest class is right as often as it occurs, and guessing by luck a little
    more often: two standard deviations are added, at most half of what is missing to 100.

    Args:
        labels: of the test images, ``(N,)``.
        classes: K.
        metric: ``top1`` or ``auc``.
    """
    counts = np.bincount(labels, minlength=classes)
    share, deviation = counts.max() / len(labels), 0.0
    if metric == "auc":
        share, least = 0.5, max(int(counts.min()), 1)
        rest = max(len(labels) - least, 1)
        deviation = math.sqrt((least + rest + 1) / (12 * least * rest))
    else:
        deviation = math.sqrt(share * (1 - share) / len(labels))
    return float(100 * min(share + 2 * deviation, (1 + share) / 2))


__all__ = ["chance", "measure_teacher", "weights_of_teacher"]
