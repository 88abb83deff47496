"""What a student predicts by beside its own network: stored with its weights, and put back.

``student.pt`` holds ``{"model": state_dict}``. Where a method changes what the student predicts
(:meth:`wcordbench.methods.base.Method.adapt`), it also holds ``prediction``: the method's state and
that of the teacher's classifier.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wcordbench import models
from wcordbench.suite.code import require
from wcordbench.training.draws import seeded
from wcordbench.training.host import fetch
from wcordbench.training.learner import Learner
from wcordbench.training.objective import Objective, Predicting, adapting, setup_of


def contents(learner: Learner) -> dict[str, Any]:
    """What is written to ``student.pt``, readable on a machine without the learner's device."""
    found: dict[str, Any] = {"model": _fetched(learner.student)}
    for method in learner.objective.adapting:
        classifier = method.setup.teacher_classifier
        found["prediction"] = {
            "method": _fetched(method),
            "teacher_classifier": None if classifier is None else _fetched(classifier),
        }
    if learner.average is not None:
        # Under a name that no reader of checkpoints takes for the weights that were scored.
        found["average"] = _fetched(learner.average.module)
    return found


def _fetched(module: nn.Module) -> dict[str, Any]:
    state = module.state_dict()
    for key, value in state.items():
        if isinstance(value, Tensor):
            state[key] = fetch(value)
    return state


def outlined(
    network: nn.Module, config: dict[str, Any], classes: int, sizes: tuple[int, int], channels: int
) -> nn.Module:
    """A network with what its method adds to it, with fresh weights; itself if that is nothing.

    Args:
        network: the student's.
        config: of the run.
        classes: K.
        sizes: side of the images that the student and the teacher saw, in pixels.
        channels: of the images.
    """
    terms = [term for term in config["method"]["terms"] if adapting(term)]
    if not terms:
        return network
    device = next(network.parameters()).device
    setup = setup_of(config, classes, sizes, channels, torch.arange(classes), device)
    classifier = setup.teacher_classifier
    if classifier is not None:
        classifier = copy.deepcopy(classifier).to_empty(device=device)
    setup = setup._replace(
        student_classifier=models.classifier_of(network), teacher_classifier=classifier
    )
    with seeded(0), device:  # the weights are read later: only the global generator must not move
        objective = Objective({"gamma": 0.0, "terms": terms}, setup)
    return Predicting(network, objective, classifier).train(network.training)


def teacher_size(config: dict[str, Any], size: int) -> int:
    """Side of the images that a run's teacher saw, in pixels, of a dataset's side."""
    view = (config["teacher"] or {}).get("view") or {}
    return int(view.get("size") or size)


def require_network(run: str, config: dict[str, Any]) -> None:
    """See that the plugins are known that a stored student's prediction is made of.

    Those of its teacher's network are, where the method predicts by parts of it as well.

    Args:
        run: its name.
        config: its configuration.

    Raises:
        UserError: one is not known here, or is another file than the run was made of.
    """
    own = f"model {config['model']}"
    require(run, config, lambda what: what == own or what.startswith("method "))
    if any(adapting(term) for term in config["method"]["terms"]):
        require(run, config, lambda what: what.startswith("model "))


def restored(
    path: Path, config: dict[str, Any], classes: int, sizes: tuple[int, int], channels: int
) -> nn.Module:
    """A run's student as it was measured, with the weights of its ``student.pt``.

    Args:
        path: the file.
        config: of the run.
        classes: K.
        sizes: side of the images that the student and the teacher saw, in pixels.
        channels: of the images.

    Returns:
        A module that maps ``(B, C, S, S)`` to :class:`Features`.

    Raises:
        UserError: the file is not one of this run's network.
    """
    with seeded(0):  # the weights are read below
        network = models.create(config["model"], classes, sizes[0], channels)
    models.load_checkpoint(network, path, whole=False)
    found = outlined(network, config, classes, sizes, channels)
    if isinstance(found, Predicting):
        stored = torch.load(path, map_location="cpu", weights_only=True)["prediction"]
        found.objective.methods[0].load_state_dict(stored["method"])
        if found.teacher_classifier is not None:
            found.teacher_classifier.load_state_dict(stored["teacher_classifier"])
    return found


__all__ = ["contents", "outlined", "require_network", "restored", "teacher_size"]
