"""Correlations of a network's logits between classes, of stored teachers and students."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wcordbench.data import base as data
from wcordbench.data.batches import TestBatches
from wcordbench.data.fingerprints import of_squares
from wcordbench.data.views import View
from wcordbench.errors import UserError
from wcordbench.results.store import Store, file_sha256
from wcordbench.suite.runs import Cell, Run, teacher_run
from wcordbench.suite.schema import Suite
from wcordbench.training.prediction import restored, teacher_size

Matrix = NDArray[np.float64]


def correlation_differences(
    suite: Suite, cells: Iterable[Cell], store: Store, data_root: Path
) -> dict[str, dict[str, Matrix]]:
    """How the students' class correlations differ from their teacher's, over the test set.

    The correlation of two classes is Pearson's, of their logits over the test images; what is
    returned is the absolute difference, ``|corr(teacher) − corr(student)|``, in which Tian et
    al. (ICLR 2020, figure 2) show what a loss on logits alone does not transfer.

    Args:
        suite: the suite.
        cells: its cells of one seed, or those to look at; methods that are not finished are
            left out.
        store: where runs and their weights are.
        data_root: the folder that holds datasets.

    Returns:
        For each pair's name, for each method's title, a ``(K, K)`` matrix of K classes; NaN
        where a logit is the same for every image.

    Raises:
        UserError: nothing is finished, or weights or data are missing or not what they were:
            maps are of the images that the runs were tested on.
    """
    done = [c for c in cells if c.method is not None and store.folder(c.run).state == "done"]
    if not done:
        raise UserError(
            f"{suite.title or suite.name}: nothing is finished yet; run the suite first"
        )
    # All weights are looked for before anything is computed.
    taught = {c.pair.name: _teacher_weights(suite, c, store) for c in done}
    paths = [_weights(c.run, store) for c in done]
    dataset = data.load(done[0].run.config["dataset"], data_root)
    taught_by = (teacher_run(suite, c.pair) for c in done)
    every = dict.fromkeys([*(r for r in taught_by if r is not None), *(c.run for c in done)])
    _same_images(every, store, dataset, data_root)
    found: dict[str, dict[str, Matrix]] = {}
    teachers: dict[str, Matrix] = {}
    for cell, path in zip(done, paths, strict=True):
        config, pair = cell.run.config, cell.pair
        if pair.name not in teachers:
            view = suite.views.teacher.config(suite.dataset)
            plain: dict[str, Any] = {
                "model": pair.teacher.model,
                "method": {"terms": []},
                "view": view,
            }
            teachers[pair.name] = _correlations(taught[pair.name], dataset, {**config, **plain})
        ours = _correlations(path, dataset, config)
        assert cell.method is not None
        found.setdefault(pair.name, {})[cell.method.title] = np.abs(teachers[pair.name] - ours)
    return found


def _same_images(runs: Iterable[Run], store: Store, dataset: data.Dataset, data_root: Path) -> None:
    """Refuse finished runs of other images than the dataset's.

    Raises:
        UserError: a result records another fingerprint.
    """
    now = dataset.fingerprint()
    for run in runs:
        was = of_squares(store.folder(run).result(best=False).get("dataset_fingerprint", now))
        if was != now:
            raise UserError(
                f"{run.name} was trained and tested on other images than dataset"
                f" {run.config['dataset']['name']!r} holds in {data_root} now (fingerprint {was}"
                f" then, {now} now); put those images back, or name their place with --data"
            )


def _teacher_weights(suite: Suite, cell: Cell, store: Store) -> Path:
    run = teacher_run(suite, cell.pair)
    given = cell.pair.teacher.checkpoint
    if run is None and given is not None:
        return Path(given.file)
    assert run is not None
    return _weights(run, store)


def _weights(run: Run, store: Store) -> Path:
    """A finished run's weights.

    Raises:
        UserError: they are not beside its result, or are not those of the result.
    """
    folder = store.folder(run)
    path = folder.path / "student.pt"
    remedy = "train the suite into a folder of its own with --results and draw from there"
    if not path.is_file():
        raise UserError(f"{path}, the weights that the maps are made of, is missing; {remedy}")
    if file_sha256(path) != folder.result().get("weights_sha256", file_sha256(path)):
        raise UserError(f"{path} is not the file whose SHA-256 its result records; {remedy}")
    return path


@torch.inference_mode()
def _correlations(path: Path, dataset: data.Dataset, config: dict[str, Any]) -> Matrix:
    """Of the network that a run's configuration describes, as it was measured."""
    device = torch.device("cpu")
    mean, std = config["dataset"]["mean"], config["dataset"]["std"]
    base, channels = dataset.test.shape[1], dataset.test.shape[3]
    sees = View(config.get("view"), base, mean, std, device)
    seen = (sees.size, teacher_size(config, base))
    model = restored(path, config, len(dataset.classes), seen, channels)
    model.eval().to(memory_format=torch.channels_last)
    batches = TestBatches(dataset.test, mean, std, device, sees)
    logits = torch.cat([model(images).logits for images, _ in batches]).double().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(logits, rowvar=False))


__all__ = ["correlation_differences"]
