"""``wcordbench list``: what a suite can name, and the shipped suites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wcordbench import registry
from wcordbench.errors import UserError

if TYPE_CHECKING:
    from wcordbench.methods.base import Setup

CLASSES, SIZE, BATCH = 100, 32, 64
#: what a method's parameters are counted for: they depend on the features' shapes
TEACHER, STUDENT = "resnet56", "resnet20"


def command(
    what: Annotated[
        str, typer.Argument(help="methods, models, datasets or suites.", show_default=False)
    ],
) -> None:
    """List the methods, models or datasets that a suite can name, or the shipped suites."""
    tables: dict[str, Callable[[], str]] = {
        "methods": methods,
        "models": models,
        "datasets": datasets,
        "suites": suites,
    }
    if what not in tables:
        raise UserError(f"cannot list {what!r}{registry.nearest(what, tables)}")
    typer.echo(tables[what]())


def methods() -> str:
    """The table of methods; takes seconds, each is built once."""
    import torch

    from wcordbench import models
    from wcordbench.methods.base import Setup

    student, teacher = (models.outline(n, CLASSES, SIZE) for n in (STUDENT, TEACHER))
    setup = Setup(
        student.shapes, teacher.shapes, CLASSES, torch.arange(CLASSES), student.classifier,
        teacher.classifier, teacher.norms, BATCH,
    )  # fmt: skip
    rows = [
        (
            e.name,
            e.meta.get("title", e.name),
            e.meta.get("paper", ""),
            _parameters(e, setup),
            "yes" if e.two_stage else "no",
            _options(e),
        )
        for e in registry.catalogue("method").values()
    ]
    return (
        _table(
            rows,
            ("name", "title", "paper", "parameters", "first stage", "options and their defaults"),
            ("left", "left", "left", "right", "left", "left"),
        )
        + "\n\nparameters: what a method trains beside the student, here for"
        f" {TEACHER}->{STUDENT} on {CLASSES} classes; memory banks are not among them."
    )


def _parameters(entry: registry.Entry, setup: Setup) -> str:
    """How many numbers a method trains beside the student's own, where that can be said."""
    kind = entry.load()
    if kind.unsupported(setup) or any(o.required for o in entry.options.values()):
        return "–"
    return f"{sum(p.numel() for p in kind(setup).parameters()):,}"


def models() -> str:
    """The table of models; takes seconds, each is built without weights."""
    import torch

    from wcordbench.models import create, macs

    rows = []
    for name in registry.catalogue("model"):
        with torch.device("meta"):
            size = sum(p.numel() for p in create(name, CLASSES, SIZE).parameters())
        rows.append((name, f"{size:,}", f"{macs(name, CLASSES, SIZE):,}"))
    return (
        _table(rows, ("name", "parameters", "MACs"), ("left", "right", "right"))
        + f"\n\nFor {CLASSES} classes and images of {SIZE}×{SIZE} pixels."
        " Every model of timm's is there too: timm:resnet18."
    )


def datasets() -> str:
    """The table of datasets."""
    rows = [
        (
            e.name,
            e.meta.get("title", e.name),
            e.meta.get("classes", "its own"),
            e.meta.get("size", "its own"),
            _options(e),
        )
        for e in registry.catalogue("dataset").values()
    ]
    return _table(rows, ("name", "title", "classes", "pixels a side", "options"))


def suites() -> str:
    """The table of shipped suites."""
    from wcordbench.suite import load_suite
    from wcordbench.suite.shipped import shipped

    rows = []
    for name, path in shipped().items():
        suite = load_suite(path)
        rows.append((name, suite.title, len(suite.pairs), len(suite.methods), len(suite.seeds)))
    return (
        _table(
            rows,
            ("name", "title", "pairs", "methods", "seeds"),
            ("left", "left", "right", "right", "right"),
        )
        + "\n\nwcordbench run NAME trains one; wcordbench init DIR --suite NAME copies it."
    )


def _options(entry: registry.Entry) -> str:
    return ", ".join(
        f"{o.name} (required)" if o.required else f"{o.name}={o.default}"
        for o in entry.options.values()
    )


def _table(
    rows: Sequence[Sequence[object]], headers: Sequence[str], align: Sequence[str] = ()
) -> str:
    from tabulate import tabulate

    widths = [48 if h.startswith("options") else None for h in headers]
    return tabulate(
        rows,
        headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=align or None,
        maxcolwidths=widths,
    )
