"""A stored student on images of another dataset: its accuracy, and a linear probe."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wcordbench.data import base as data
from wcordbench.data.base import Dataset, Split
from wcordbench.data.batches import TestBatches
from wcordbench.data.memory import allowing
from wcordbench.data.task import apply_task
from wcordbench.data.views import View
from wcordbench.devices import available
from wcordbench.errors import UserError
from wcordbench.results.evaluations import add, evaluations
from wcordbench.results.find import find
from wcordbench.results.provenance import environment
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.other import other_dataset
from wcordbench.training.deploy import Student, load_student
from wcordbench.training.evaluation import evaluate
from wcordbench.training.precision import autocast

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


Measured = Callable[[RunFolder, Student, dict[str, Any], Path], dict[str, Any]]


def measure(
    results: Path,
    run: str,
    dataset: str,
    name: str | None,
    data_root: Path,
    device: str,
    how: Measured,
    prefix: str = "",
    plugins: Iterable[Path] = (),
) -> str:
    """Measure a stored run on another dataset and store the record beside its result.

    Args:
        results: the results folder.
        run: the run's name, or its end.
        dataset: see :func:`wcordbench.suite.other.other_dataset`.
        name: of the measurement; the dataset's by default.
        data_root: the folder that holds datasets.
        device: where the network goes.
        how: :func:`measure_accuracy` or :func:`measure_probe`.
        prefix: put before the name.
        plugins: files that register what the run is made of, or the dataset.

    Returns:
        A line that says what was measured.

    Raises:
        UserError: there is no such run, dataset or device, or a measurement of this name is of
            other images.
    """
    folder = find(Store(results), run)
    (device,) = available(device)
    student = load_student(folder.path, results, data_root, device, plugins)
    own = folder.result(best=False)["config"]["dataset"]
    given, config = other_dataset(dataset, own, student.card.size)
    name = prefix + (name or given)
    if not _NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r} cannot name a measurement; use letters, digits, '_', '-', '.', ':'"
        )
    before = evaluations(folder).get(name)
    record = how(folder, student, config, data_root)
    if before is not None and before["dataset_fingerprint"] != record["dataset_fingerprint"]:
        raise UserError(
            f"{folder.path.name} has a measurement {name!r} of other images; give this one"
            " another --name"
        )
    scores = ", ".join(f"{key} {value:.2f}%" for key, value in record["scores"].items())
    weak = "" if record.get("converged", True) else " (the classifier did not converge)"
    line = f"{folder.path.name}: {name}: {scores} on {record['images']} images{weak}"
    try:
        add(folder, name, record)
    except UserError as error:  # what took long is not lost with the disk
        raise UserError(f"{line}; this is not stored: {error}") from None
    return line


def measure_accuracy(
    folder: RunFolder, student: Student, config: dict[str, Any], data_root: Path
) -> dict[str, Any]:
    """Accuracy of a stored student on the test images of another dataset of the same classes.

    Args:
        folder: the student's run.
        student: the run's network, on the device to use.
        config: the ``dataset`` part of a configuration, see :mod:`wcordbench.suite.other`.
        data_root: the folder that holds datasets.

    Returns:
        A record for :func:`wcordbench.results.evaluations.add`; ``top1``, ``top5`` (and ``auc``
        where the run's metric is that) in percent.

    Raises:
        UserError: the data cannot be read, or their classes are not the network's.
    """
    names = student.card.classes
    config = _with_task(folder, config, names, data_root)
    with allowing(None, device=student.mean.device):
        dataset = data.load(config, data_root)
    if set(dataset.classes) != set(names):
        missing = sorted(set(names) - set(dataset.classes))
        strange = sorted(set(dataset.classes) - set(names))
        which = f"lacks class {missing[0]!r}" if missing else f"has a class {strange[0]!r}"
        raise UserError(
            f"dataset {config['name']!r} {which} and so is not of the {len(names)} classes that"
            f" {folder.path.name} tells apart; wcordbench probe measures features on other classes"
        )
    place = np.array([names.index(name) for name in dataset.classes], np.int64)
    test = replace(dataset.test, labels=place[dataset.test.labels])
    record = folder.result(best=False)
    precision = record.get("environment", {}).get("precision", "fp32")
    device = student.mean.device
    measured = evaluate(
        student.network, _batches(test, record["config"], device), precision, device,
        auc=record["config"].get("metric") == "auc",
    )  # fmt: skip
    scores = {k.removeprefix("test_"): v for k, v in measured.items() if k != "test_loss"}
    return _record(folder, config, dataset, scores, device, precision, "evaluation")


def measure_probe(
    folder: RunFolder,
    student: Student,
    config: dict[str, Any],
    data_root: Path,
    regularisation: float = 1.0,
) -> dict[str, Any]:
    """Accuracy of a linear classifier of a stored student's frozen features.

    The transfer experiment of Tian et al., "Contrastive Representation Distillation" (ICLR
    2020), section 4.1: a linear classifier is trained on the pooled features of another
    dataset's training images, without augmentation, and tested on its test images. Here it is
    scikit-learn's multinomial logistic regression on standardised features.

    Args:
        folder, student, config, data_root: see :func:`measure_accuracy`; the classes may be any.
        regularisation: C of scikit-learn's ``LogisticRegression``, the inverse of the strength.

    Raises:
        UserError: the data cannot be read.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    device = student.mean.device
    with allowing(None, device=device):
        dataset = data.load(config, data_root)
    record = folder.result(best=False)
    precision = record.get("environment", {}).get("precision", "fp32")
    train, test = (
        _pooled(student, _batches(split, record["config"], device), precision)
        for split in (dataset.train, dataset.test)
    )
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=regularisation, max_iter=1000)
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(train, dataset.train.labels)
    ranked = classifier.classes_[np.argsort(-classifier.predict_proba(test), axis=1)]
    hits = ranked == dataset.test.labels[:, None]
    scores = {"top1": 100 * float(hits[:, 0].mean())}
    if len(dataset.classes) > 5:
        scores["top5"] = 100 * float(hits[:, :5].any(1).mean())
    made = _record(folder, config, dataset, scores, device, precision, "linear probe")
    made["regularisation"] = regularisation
    made["converged"] = not any(issubclass(w.category, ConvergenceWarning) for w in said)
    return made


def _with_task(
    folder: RunFolder, config: dict[str, Any], names: tuple[str, ...], data_root: Path
) -> dict[str, Any]:
    """The other dataset with the task of the run, unless its classes are the network's already.

    Raises:
        UserError: the task does not fit it, or counts classes that it may count otherwise.
    """
    own = folder.result(best=False)["config"]["dataset"]
    if "task" not in own:
        return config
    plain = data.look(config, data_root)
    if set(plain.classes) == set(names):
        return config
    task = own["task"]
    members = task.get("positive") or [m for group in task["groups"].values() for m in group]
    number = next((m for m in members if isinstance(m, int) and str(m) not in plain.classes), None)
    if number is not None and any(config[key] != own[key] for key in ("name", "options")):
        raise UserError(
            f"the task of {folder.path.name} names class {number} by its number, which in dataset"
            f" {config['name']!r} may be another class; name classes in the suite, or give folders"
            f" that are called {' and '.join(names)}"
        )
    try:
        apply_task(plain, task)
    except UserError as error:
        raise UserError(f"{folder.path.name} has a task of its own: {error}") from None
    return config | {"task": task}


def _batches(split: Split, config: dict[str, Any], device: torch.device) -> TestBatches:
    mean, std = config["dataset"]["mean"], config["dataset"]["std"]
    view = View(config.get("view"), split.shape[1], mean, std, device)
    return TestBatches(split, mean, std, device, view, again=False)


@torch.inference_mode()
def _pooled(student: Student, batches: TestBatches, precision: str) -> NDArray[np.float32]:
    found = []
    for images, _ in batches:
        with autocast(precision, student.mean.device):
            found.append(student.network(images).pooled.float().cpu())
    return np.asarray(torch.cat(found).numpy())


def _record(
    folder: RunFolder,
    config: dict[str, Any],
    dataset: Dataset,
    scores: dict[str, float],
    device: torch.device,
    precision: str,
    kind: str,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "dataset": config,
        "dataset_fingerprint": dataset.fingerprint(),
        "images": len(dataset.test.labels),
        "scores": scores,
        "weights_sha256": folder.result(best=False)["weights_sha256"],
        "environment": {**environment(device), "precision": precision},
        "ended": time.time(),
    }


__all__ = ["measure", "measure_accuracy", "measure_probe"]
