"""The augmentations that a suite may name: torchvision's transforms (v2), and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def _whole(low: int, high: float = float("inf")) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high


def _between(low: float, high: float) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high


def _rising(low: float, high: float) -> Callable[[Any], bool]:
    """Two numbers from low to high, the second above low."""
    inside = _between(low, high)
    return lambda v: (
        isinstance(v, list) and len(v) == 2 and all(map(inside, v)) and low < v[1] >= v[0]
    )


_pixel = _whole(0, 255)
_PIXELS = "a whole number from 0 to 255, as pixels are"
_SMALLEST = 1e-6
#: what options may be, and in words. torchvision takes other values as well, of which some
#: wrap around (a magnitude of -1, a pixel of 256), some are cut off (a pixel of 0.5), and some do
#: nothing; others raise only at an image for which they are drawn.
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "alpha": (_between(_SMALLEST, float("inf")), "a number above 0"),
    "chain_depth": (lambda v: v == -1 or _whole(1)(v), "a whole number above 0, or -1 for 1 to 3"),
    "magnitude": (_whole(0), "a whole number from 0 to one below num_magnitude_bins, which is 31"),
    "mixture_width": (_whole(1), "a whole number above 0"),
    "num_magnitude_bins": (_whole(2), "a whole number above 1"),
    "num_ops": (_whole(1), "a whole number above 0"),
    "p": (_between(0, 1), "a number from 0 to 1"),
    "ratio": (_rising(_SMALLEST, float("inf")), "two numbers above 0, the smaller first"),
    "scale": (_rising(0, 1), "two numbers from 0 to 1, the smaller first: shares of the area"),
    "severity": (_whole(1, 10), "a whole number from 1 to 10"),
    "threshold": (_pixel, _PIXELS),
    "value": (
        lambda v: _pixel(v) or (isinstance(v, list) and bool(v) and all(map(_pixel, v))),
        f"{_PIXELS}, or one a channel",
    ),
    "whole": (lambda v: isinstance(v, bool), "true or false"),
}


def transform(value: Any) -> dict[str, Any]:
    """``rand_augment`` or ``{name: rand_augment, magnitude: 9}`` as the latter.

    Raises:
        Mistake: no such transform or option, or a value out of its range.
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
        fits, words = RANGES.get(key, (lambda _: True, ""))
        if not fits(given[key]):
            raise Mistake(f"gives {name} {key}: {given[key]!r}; give {words}")
    if name == "rand_augment":
        magnitude, bins = given.get("magnitude", 9), given.get("num_magnitude_bins", 31)
        if magnitude >= bins:
            raise Mistake(
                f"gives {name} magnitude {magnitude} of {bins} bins, which are numbered from 0;"
                f" give at most {bins - 1}, or more num_magnitude_bins"
            )
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
