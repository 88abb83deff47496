"""The augmentations that a suite may name: torchvision's transforms (v2), and their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wcordbench import registry
from wcordbench.suite.base import Mistake

#: a suite's name: the class of torchvision.transforms.v2, and the options that may be set
TRANSFORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "aug_mix": ("AugMix", ("severity", "mixture_width", "chain_depth", "alpha")),
    "auto_augment": ("AutoAugment", ()),
    "color_jitter": ("ColorJitter", ("brightness", "contrast", "saturation", "hue")),
    "gaussian_blur": ("GaussianBlur", ("kernel_size", "sigma")),
    "rand_augment": ("RandAugment", ("num_ops", "magnitude", "num_magnitude_bins")),
    "random_erasing": ("RandomErasing", ("p", "scale", "ratio", "value")),
    "random_grayscale": ("RandomGrayscale", ("p",)),
    "random_horizontal_flip": ("RandomHorizontalFlip", ("p",)),
    "random_resized_crop": ("RandomResizedCrop", ("scale", "ratio", "whole")),
    "random_rotation": ("RandomRotation", ("degrees",)),
    "random_solarize": ("RandomSolarize", ("threshold", "p")),
    "random_vertical_flip": ("RandomVerticalFlip", ("p",)),
    "trivial_augment": ("TrivialAugmentWide", ("num_magnitude_bins",)),
}


def transform(value: Any) -> dict[str, Any]:
    """``rand_augment`` or ``{name: rand_augment, magnitude: 9}`` as the latter.

    Raises:
        Mistake: no such transform or option.
    """
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise Mistake(f"must be names of transforms, or mappings with a name; not {value!r}")
    name = given["name"]
    if name not in TRANSFORMS:
        raise Mistake(f"has an unknown transform {name!r}{registry.nearest(name, TRANSFORMS)}")
    options = TRANSFORMS[name][1]
    for key in given:
        if key != "name" and key not in options:
            hint = registry.nearest(str(key), options) if options else "; it takes none"
            raise Mistake(f"gives {name} an unknown option {key!r}{hint}")
    if not isinstance(given.get("whole", False), bool):
        raise Mistake(f"gives {name} whole: {given['whole']!r}; give true or false")
    said = {key: given[key] for key in options if key in given}
    if not said.get("whole"):  # it says nothing
        said.pop("whole", None)
    return {"name": name, **said}


def in_order(transforms: list[dict[str, Any]]) -> None:
    """Check the crop that comes before all others.

    Raises:
        Mistake: another one comes before it.
    """
    for each in transforms[1:]:
        if each.get("whole"):
            raise Mistake(
                f"cuts {each['name']} from whole images, and {transforms[0]['name']} comes before"
                " it; put it first"
            )


def cuts_whole(train: Mapping[str, Any]) -> bool:
    """Whether a protocol's images are cut from whole files, which no square in memory holds.

    Args:
        train: of a run's configuration.
    """
    return any(each.get("whole") for each in train["augment"].get("transforms", ()))


__all__ = ["TRANSFORMS", "cuts_whole", "in_order", "transform"]
