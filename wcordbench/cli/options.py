"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wcordbench.errors import UserError
from wcordbench.registry import nearest

if TYPE_CHECKING:
    from wcordbench.suite import Suite
    from wcordbench.suite.runs import Cell

SuitePath = Annotated[
    Path,
    typer.Argument(
        help="The suite's YAML file, or the name of a shipped suite.", show_default=False
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: train.epochs=2. May be given again."),
]
PairOption = Annotated[
    list[str] | None,
    typer.Option("--pair", help="Only this pair, by networks or label: 'resnet56->resnet20'."),
]
MethodOption = Annotated[
    list[str] | None, typer.Option("--method", help="Only this method, by key or label.")
]
SeedOption = Annotated[list[int] | None, typer.Option("--seed", help="Only this seed.")]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        help="The method to compare with, by key or label; by default crd, or else student."
    ),
]
Results = Annotated[Path, typer.Option("--results", help="The results folder.")]
Data = Annotated[
    Path,
    typer.Option("--data", envvar="WCORDBENCH_DATA", help="The folder that holds datasets."),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A file that registers what the run is made of."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:0; CUDA where there is one."),
]
#: more processes or threads than any machine has; above it libraries raise what they like
MOST = 4096
Workers = Annotated[int | None, typer.Option("--workers", min=1, max=MOST, help="Jobs at a time.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=MOST, help="Threads a worker.")
]
PerGpu = Annotated[
    int | None, typer.Option("--per-gpu", min=1, max=MOST, help="Jobs that share a GPU.")
]
TensorBoardFolder = Annotated[
    Path | None, typer.Option("--tensorboard", help="Write every epoch for tensorboard --logdir.")
]
WandbProject = Annotated[
    str | None, typer.Option("--wandb", help="Log every epoch to this Weights & Biases project.")
]
MlflowUri = Annotated[
    str | None,
    typer.Option("--mlflow", help="Log every epoch to this MLflow tracking URI, or folder."),
]
CohortSize = Annotated[
    int | None,
    typer.Option(
        "--cohort-size", min=1, help="Runs that train together at most; split to fit otherwise."
    ),
]


def existing(results: Path) -> Path:
    """The results folder, for commands that only read it.

    Raises:
        UserError: there is none.
    """
    if not results.is_dir():
        what = "is a file, not a folder" if results.exists() else "does not exist"
        raise UserError(
            f"results folder {results} {what}; run the suite first, or name another with --results"
        )
    return results


def comparison(value: str | None) -> Literal["published", "none"] | None:
    """What ``--compare`` asks for.

    Raises:
        UserError: neither published nor none.
    """
    if value == "published":
        return "published"
    if value == "none":
        return "none"
    if value is None:
        return None
    raise UserError(f"--compare {value!r} is unknown; valid: published, none")


def select(
    suite: Suite,
    pairs: list[str] | None,
    methods: list[str] | None,
    seeds: list[int] | None,
    unfetched: bool = False,
) -> list[Cell]:
    """The cells that ``--pair``, ``--method`` and ``--seed`` leave, with their teachers.

    Args:
        suite: whose cells.
        pairs: networks or labels; None or empty for all, as are the others.
        methods: keys or labels.
        seeds: some of the suite's.
        unfetched: see :func:`wcordbench.suite.runs.expand`.

    Raises:
        UserError: a name that the suite does not have; a file that these cells need is not there.
    """
    from wcordbench.suite.base import alike
    from wcordbench.suite.runs import check_known, expand

    cells = expand(suite, unfetched=True)
    wanted: set[str] = set()
    for pair in pairs or []:
        found = [p.name for p in suite.pairs if alike(pair) == alike(p.name)]
        found = found or [p.name for p in suite.pairs if alike(pair) == alike(p.networks)]
        if not found:
            known = dict.fromkeys(n for p in suite.pairs for n in (p.name, p.networks))
            raise UserError(f"--pair {pair!r} is not in the suite{nearest(pair, known)}")
        wanted.update(found)
    known_methods = [n for m in suite.methods for n in (m.name, m.title)]
    for method in methods or []:
        if method not in known_methods:
            raise UserError(
                f"--method {method!r} is not in the suite"
                f"{nearest(method, dict.fromkeys(known_methods))}"
            )
    for seed in seeds or []:
        if seed not in suite.seeds:
            raise UserError(f"--seed {seed} is not among the suite's seeds {suite.seeds}")
    kept = [
        c
        for c in cells
        if c.method is not None
        and (not pairs or c.pair.name in wanted)
        and (not methods or {c.method.name, c.method.title} & set(methods))
        and (not seeds or c.seed in seeds)
    ]
    if not unfetched:  # what is not asked for needs no file
        check_known(suite, kept)
    teachers = {(c.run.teacher, c.pair.name) for c in kept}
    return [c for c in cells if c.method is None and (c.run, c.pair.name) in teachers] + kept


def with_baseline(methods: list[str] | None, baseline: str | None) -> list[str] | None:
    """What ``--method`` leaves, for :func:`select`, with the row that it is compared with."""
    return [*methods, baseline] if methods and baseline is not None else methods


def write_out(out: Path, data: bytes, flag: str = "--out") -> None:
    """Write the file that a flag names.

    Raises:
        UserError: it cannot be written.
    """
    from wcordbench.results.store import StorageError, write_atomic

    try:
        write_atomic(out, data)
    except StorageError as error:
        reason = str(error).partition("; ")[0]
        raise UserError(f"{reason}; give another file with {flag}") from None
