"""A dataset that a stored run is measured on after its training, as a command names it."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from wcordbench import registry
from wcordbench.data.reading import reading_of
from wcordbench.errors import UserError
from wcordbench.suite.base import one_line
from wcordbench.suite.blame import first, sentence
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
            down to it. Options of reading (``image_size``, ``resize``, ``grayscale``) are the
            run's where a name or a mapping does not give them.

    Returns:
        A name for the measurement, and the configuration.

    Raises:
        UserError: there is no such dataset or file, it does not fit the network, or a key that
            says how the network sees images is given.
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
        key = next((k for k in given if k in ("mean", "std", "size", "holdout")), None)
        if key is not None:
            raise UserError(
                one_line(
                    f"--dataset {text}: key {key!r} has no use here: the network keeps its own"
                    f" normalisation and image size ({side} pixels), and is measured on the test"
                    " images; leave it out"
                )
            )
        name = str(given.get("name", ""))
        given = _read_alike(given, config, side)
    given = {k: v for k, v in given.items() if k != "holdout"}
    given |= {"mean": config["mean"], "std": config["std"], "size": side}
    try:
        dataset = Dataset.model_validate(given)
    except ValidationError as error:
        mistake = first(error, given, Dataset)
        told = sentence(mistake, mistake.at)
        if mistake.at == ("size",):  # no key of the user's, nor is 'mean'
            told = (
                f"its images are smaller than the {side} pixels of the run's training images;"
                " name a dataset of larger ones, or give them a larger options.image_size"
            )
        elif mistake.at == ("mean",):
            told = (
                f"its images have another number of channels than the {len(config['mean'])} of the"
                " run's training images; name another dataset"
            )
        raise UserError(one_line(f"--dataset {text}: {told}")) from None
    return name, dataset.config()


def _read_alike(given: dict[str, Any], config: dict[str, Any], side: int) -> dict[str, Any]:
    """With those options of reading that are not given as the run's images were read.

    Args:
        given: what a suite says under ``dataset:``.
        config: the run's own ``dataset`` part.
        side: of the images that the run was trained on.
    """
    entry = registry.catalogue("dataset").get(str(given.get("name")))
    options = given.get("options") or {}
    if entry is None or not isinstance(options, dict) or "image_size" not in entry.options:
        return given
    reading = reading_of(config)
    usual: dict[str, Any] = {"image_size": side}
    if reading is not None:
        usual = {"image_size": reading.size, "resize": reading.resize}
        usual["grayscale"] = reading.grayscale
    if "image_size" in options:  # then how it comes about is the user's as well
        usual.pop("resize", None)
    annotation = entry.options["image_size"].annotation
    if typing.get_origin(annotation) is typing.Literal:
        allowed = typing.get_args(annotation)
        larger = [value for value in allowed if value >= usual["image_size"]]
        usual["image_size"] = min(larger, default=max(allowed))
    fitting = {
        key: value
        for key, value in usual.items()
        if key in entry.options and value != entry.options[key].default
    }
    return {**given, "options": {**fitting, **options}}


__all__ = ["other_dataset"]
