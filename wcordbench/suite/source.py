"""Where a finished teacher's weights come from: a file, a download of known content, or timm."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, model_validator

from wcordbench.suite.base import Mistake, Strict, in_unit, show

#: beside the suite's file, where downloads go that name no other place
FOLDER = "weights"


def file_name(url: str) -> str:
    """The file's name in an address; ``teacher.pth`` where it has none."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return name if name.strip(". ") and "/" not in name and "\0" not in name else "teacher.pth"


def written(value: Any) -> Any:
    """The mapping that a text or true stands for: ``x.pth`` is ``{path: x.pth}``."""
    if value is True:
        return {"timm": True}
    return {"path": value} if isinstance(value, str) else value


def default_path(given: dict[str, Any], model: Any) -> str | None:
    """Where a source's file is: as the suite says it, by the address, or by timm's model.

    Args:
        given: the source, as :func:`written` gives it.
        model: what the suite says of the teacher's architecture.
    """
    path, url = given.get("path"), given.get("url")
    if path is None and isinstance(url, str):
        return f"{FOLDER}/{file_name(url)}"
    if path is None and given.get("timm") is True and isinstance(model, str):
        return f"{FOLDER}/{file_name(model.removeprefix('timm:'))}.safetensors"
    return path if isinstance(path, str) else None


def _address(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise Mistake(f"must be an address that begins with https:// or http://, not {show(value)}")
    return value


def _digest(value: Any) -> Any:
    text = value.lower() if isinstance(value, str) else ""
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise Mistake(f"must be the 64 hexadecimal digits of a SHA-256, not {show(value)}")
    return text


class Source(Strict):
    """A teacher's weights: a file, or where `wcordbench fetch` gets it: an address, or timm."""

    path: str | None = Field(
        None,
        description="the file, relative to the suite's; null: weights/ and the address's last part,"
        " or the model's name",
        examples=["wrn_40_2.pth"],
    )
    url: Annotated[str | None, BeforeValidator(_address)] = Field(
        None,
        description="where wcordbench fetch gets it",
        examples=["https://example.org/wrn_40_2.pth"],
    )
    timm: bool = Field(
        False, description="timm's own weights of the model, which wcordbench fetch gets"
    )
    sha256: Annotated[str | None, BeforeValidator(_digest)] = Field(
        None,
        description="of the file; needed with an url",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    top1: Annotated[float | None, in_unit("percent", 75.61)] = Field(
        None,
        ge=0,
        le=100,
        description="its published test accuracy; fetch prints what is measured beside it",
    )

    @model_validator(mode="after")
    def _enough(self) -> Source:
        if self.url is not None and self.sha256 is None:
            raise Mistake("is missing: a download is checked by it", "sha256")
        if self.timm and self.url is not None:
            raise Mistake(": the weights come from one place; leave 'timm' or 'url' out", "timm")
        if self.path is None and not self.fetched:
            raise Mistake(
                ": give the path of a file, url and sha256 of a download, or true for timm's own"
            )
        return self

    @property
    def fetched(self) -> bool:
        """Whether ``wcordbench fetch`` gets it."""
        return self.timm or self.url is not None

    @property
    def file(self) -> str:
        """The file's path, as :func:`wcordbench.suite.paths.resolve` makes it."""
        assert self.path is not None
        return self.path
