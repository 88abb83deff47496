"""Where a finished teacher's weights come from: a file, or a download of known content."""

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
    """The mapping that a text stands for: ``x.pth`` is ``{path: x.pth}``."""
    return {"path": value} if isinstance(value, str) else value


def default_path(given: dict[str, Any]) -> str | None:
    """Where a source's file is, as the suite says it or by the address; None if neither does."""
    path, url = given.get("path"), given.get("url")
    if path is None and isinstance(url, str):
        return f"{FOLDER}/{file_name(url)}"
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
    """A teacher's weights: a file, or an address from which `wcordbench fetch` gets it."""

    path: str | None = Field(
        None,
        description="the file, relative to the suite's; null: weights/ and the address's last part",
        examples=["wrn_40_2.pth"],
    )
    url: Annotated[str | None, BeforeValidator(_address)] = Field(
        None,
        description="where wcordbench fetch gets it",
        examples=["https://example.org/wrn_40_2.pth"],
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
        if self.path is None and self.url is None:
            raise Mistake(": give the path of a file, or url and sha256 of a download")
        return self

    @property
    def file(self) -> str:
        """The file's path, as :func:`wcordbench.suite.paths.resolve` makes it."""
        assert self.path is not None
        return self.path
