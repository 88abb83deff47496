"""A dataset that a stored run is measured on after its training, as a command names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wcordbench.errors import UserError
from wcordbench.suite.base import located, one_line, phrase
from wcordbench.suite.dataset import Dataset
from wcordbench.suite.load import load_suite


def other_dataset(text: str, config: dict[str, Any], side: int) -> tuple[str, dict[str, Any]]:
    """The ``dataset`` part of a configuration for images that a run was not trained on.

    Args:
        text: a registered dataset (``cifar10``), what a suite says under ``dataset:`` in one line
            of YAML (``{name: imagefolder, options: {folder: photos}}``), or the file of a suite,
            whose dataset is meant.
        config: the run's own ``dataset`` part. The network keeps its normalisation: mean and
            standard deviation are taken from here.
        side: of the images that the run was trained on, in pixels; the others are averaged
            down to it.

    Returns:
        A name for the measurement, and the configuration.

    Raises:
        UserError: there is no such dataset or file, or it does not fit the network's channels.
    """
    if Path(text).suffix in (".yaml", ".yml"):
        suite = load_suite(Path(text))
        given: Any = suite.dataset.model_dump(exclude_unset=True)
        name = suite.name
    else:
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            given = None
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, dict):
            raise UserError(
                one_line(
                    f"--dataset {text!r} is neither a dataset's name, nor a mapping such as"
                    " '{name: imagefolder, options: {folder: photos}}', nor a suite's file"
                )
            )
        name = str(given.get("name", ""))
    given = {k: v for k, v in given.items() if k != "holdout"}
    given |= {"mean": config["mean"], "std": config["std"], "size": side}
    try:
        dataset = Dataset.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            one_line(f"--dataset {text}: {located(phrase(dict(first)), first['loc'])}")
        ) from None
    resolved = dataset.config()
    if "task" in config:
        resolved["task"] = config["task"]
    return name, resolved


__all__ = ["other_dataset"]
