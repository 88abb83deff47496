"""What a suite says about images: the dataset, the task made of its classes, and views."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from wcordbench.suite.base import (
    Fraction,
    Mistake,
    PositiveInt,
    Strict,
    in_unit,
    registered,
    resolve_options,
    show,
)


def _gib(value: Any) -> Any:
    if value == "auto" or value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise Mistake(f"must be auto or a number of GiB above 0, not {show(value)}")
    return float(value)


class Dataset(Strict):
    """Images, the size they are used at, and how they are normalised."""

    name: str = Field(
        description="a dataset of wcordbench list datasets, or a plugin's", examples=["cifar100"]
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="the dataset's own options, see below",
        examples=[{"folder": "xrays"}],
    )
    size: Annotated[PositiveInt | None, in_unit("pixels a side", 16)] = Field(
        None, description="images are averaged down to it once, when loaded; null keeps theirs"
    )
    mean: Annotated[list[Fraction], in_unit("of values in [0, 1]", [0.5071, 0.4867, 0.4408])] = (
        Field(min_length=1, description="subtracted from the images, one value a channel")
    )
    std: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]],
        in_unit("of values in [0, 1]", [0.2675, 0.2565, 0.2761]),
    ] = Field(description="what the images are divided by, one value a channel")
    holdout: Annotated[PositiveInt | None, in_unit("images", 5000)] = Field(
        None,
        description="scores are of that many training images, which no network of the suite is"
        " trained on: a fixed draw, as many of each class; null: of the test images",
    )

    title: str = Field(
        "",
        max_length=60,
        description="the dataset's name in runs and tables; empty: what it is registered as",
        examples=["X-rays"],
    )
    cache: Annotated[PositiveInt | None, in_unit("pixels a side", 160)] = Field(
        None,
        description="of a folder of images: they are brought to squares of this size first, which"
        " are kept on disk where they do not fit in memory",
    )
    memory: Annotated[float | None, BeforeValidator(_gib), in_unit("GiB", 8)] = Field(
        None,
        json_schema_extra={"anyOf": [{"const": "auto"}, {"type": "number"}, {"type": "null"}]},
        description="GiB that the images may take in memory; a folder of images that does not fit"
        " is decoded as it is needed, to the same pixels; auto: half of what is free, shared by the"
        " processes",
    )

    @model_validator(mode="after")
    def _known(self) -> Dataset:
        try:
            meta = registered("dataset", self.name).meta
        except Mistake as error:
            raise Mistake(error.message, "name") from None
        try:
            options = self.resolved_options()
        except Mistake as error:
            raise Mistake(error.message, "options", *error.at) from None
        side = meta.get("size") or options.get("image_size")
        if self.size is not None and isinstance(side, int) and self.size > side:
            raise Mistake(
                f"is {self.size}, but {self.name} has images of {side} pixels;"
                f" choose at most {side}",
                "size",
            )
        channels = meta.get("channels", len(self.mean))
        for key in ("mean", "std"):
            n = len(getattr(self, key))
            if n != channels:
                reason = (
                    f"{self.name} has {channels} channel{'s' * (channels != 1)}"
                    if "channels" in meta
                    else f"mean has {channels}"
                )
                raise Mistake(f"has {n} value{'s' * (n != 1)}, but {reason}; give one each", key)
        return self

    @property
    def pixels(self) -> int | None:
        """Side of the images as they are loaded, where the suite or the dataset says it."""
        side: int | None = self.size or registered("dataset", self.name).meta.get("size")
        return side

    def check_holdout(self, task: Task | None) -> None:
        """Check what is known of the held-out images without the data.

        Raises:
            Mistake: they cannot be as many of each class, or are all there are.
        """
        meta = registered("dataset", self.name).meta
        classes = task.classes if task is not None else meta.get("classes")
        if self.holdout is None or classes is None:
            return
        if self.holdout % classes:
            near = max(1, round(self.holdout / classes)) * classes
            raise Mistake(
                f"is {self.holdout}, but there are {classes} classes, of which it takes as many"
                f" images each; give a multiple, such as {near}",
                "holdout",
            )
        images = meta.get("images")
        if images is not None and self.holdout >= images:
            raise Mistake(
                f"is {self.holdout}, but {self.name} has {images} training images; hold out fewer",
                "holdout",
            )

    @property
    def keeps_all(self) -> bool:
        """Whether ``cache`` is the size that images are read at anyway: the same pixels."""
        options = self.resolved_options()
        side = options.get("image_size")
        return self.cache is not None and self.cache == side == options.get("resize", side)

    def config(self) -> dict[str, Any]:
        """The part of a run's configuration: every value, and of the later keys those given.

        ``memory`` is left out: it changes where pixels are, not what they are.
        """
        values = {**self.model_dump(), "options": self.resolved_options()}
        del values["memory"]
        if self.keeps_all:
            values["cache"] = None
        for key in ("holdout", "title", "cache"):
            if not values[key]:
                del values[key]
        return values

    def resolved_options(self) -> dict[str, Any]:
        """Every option of the dataset, the defaults included; see :func:`resolve_options`.

        Raises:
            Mistake: an option is unknown, missing or of the wrong type.
        """
        return resolve_options(registered("dataset", self.name), self.options)


class Task(Strict):
    """Classes made of the dataset's: some against all others, or named groups."""

    positive: list[str | int] | None = Field(
        None,
        description="classes, by name or number, to tell from all others",
        examples=[["melanoma"]],
    )
    groups: dict[str, list[str | int]] | None = Field(
        None,
        description="one class a group; images of classes in no group are left out",
        examples=[{"animals": ["cat", "dog"], "things": ["car", "ship"]}],
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Task:
        if (self.positive is None) == (self.groups is None):
            raise Mistake(": give either 'positive', a list of classes, or 'groups'")
        if self.groups is not None and len(self.groups) < 2:
            raise Mistake("needs at least two groups, to tell one from the other", "groups")
        for at, members in self._lists():
            if not members:
                raise Mistake("must name at least one class", *at)
            for i, member in enumerate(members):
                if member in members[:i]:
                    raise Mistake(f": {member!r} stands there already; remove one", *at, i)
        return self

    def _lists(self) -> list[tuple[tuple[str, ...], list[str | int]]]:
        if self.groups is None:
            return [(("positive",), self.positive or [])]
        return [(("groups", name), members) for name, members in self.groups.items()]

    def members(self) -> list[tuple[tuple[str | int, ...], str | int]]:
        """Every class that is named, by its path."""
        return [((*at, i), m) for at, members in self._lists() for i, m in enumerate(members)]

    @property
    def classes(self) -> int:
        """How many classes the task has."""
        return len(self.groups) if self.groups is not None else 2


class View(Strict):
    """What a network sees of an image, after the crop and flip that it shares with the other.

    In this order: blur, size, grey, noise, normalisation.
    """

    size: Annotated[PositiveInt | None, in_unit("pixels a side", 8)] = Field(
        default=None, description="averaged down or interpolated up on the device; null keeps it"
    )
    grayscale: bool = Field(default=False, description="every channel holds the luma")
    noise: Annotated[float, in_unit("of values in [0, 1]")] = Field(
        default=0.0, ge=0, description="standard deviation of Gaussian noise"
    )
    blur: Annotated[float, in_unit("pixels")] = Field(
        default=0.0, ge=0, description="standard deviation of a Gaussian blur"
    )
    mean: Annotated[list[Fraction] | None, in_unit("of values in [0, 1]", [0.5])] = Field(
        default=None, description="in place of the dataset's"
    )
    std: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]] | None, in_unit("of values in [0, 1]", [0.5])
    ] = Field(default=None, description="in place of the dataset's")

    def config(self, dataset: Dataset) -> dict[str, Any] | None:
        """The part of a run's configuration; None where the image is seen as it is."""
        values = self.model_dump(exclude_defaults=True)
        if values.get("size") == dataset.pixels:
            values.pop("size", None)
        for key in ("mean", "std"):
            if values.get(key) == getattr(dataset, key):
                del values[key]
        return values or None


class Views(Strict):
    """What the teacher and the student each see of the same image."""

    teacher: View = Field(
        default=View(), description="what the teacher sees", examples=[{"size": 32}]
    )
    student: View = Field(
        default=View(), description="what the student sees", examples=[{"size": 8}]
    )

    def fit(self, channels: int) -> None:
        """Check the normalisations against the images.

        Raises:
            Mistake: a view has another number of channels.
        """
        for role in ("teacher", "student"):
            view = getattr(self, role)
            if (view.mean is None) != (view.std is None):
                raise Mistake("gives one of 'mean' and 'std'; give both or neither", role)
            for key in ("mean", "std"):
                values = getattr(view, key)
                if values is not None and len(values) != channels:
                    raise Mistake(
                        f"has {len(values)} value{'s' * (len(values) != 1)}, but dataset.mean has"
                        f" {channels}; give one a channel",
                        role,
                        key,
                    )
