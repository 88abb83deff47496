"""What every executor is, how one is found by name, and what a worker does wherever it runs."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.results.provenance import device_of_host
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job

#: takes the events of the training, each a dictionary with a ``kind``, see the command's display
Report = Callable[[dict[str, Any]], None]

#: events after which a run needs no more work, now
LAST_WORDS = ("done", "failed", "undefined")


#: what ``--compile`` may be: nothing, or a mode of torch.compile
COMPILE = ("off", "default", "reduce-overhead")


class InterruptedRunError(Exception):
    """Ctrl-C, SIGTERM or a closed terminal; the workers have left.

    Attributes:
        saved: whether they have written their checkpoints first (not on the second signal).
    """

    def __init__(self, saved: bool) -> None:
        super().__init__()
        self.saved = saved


class Executor(Protocol):
    """Where jobs run."""

    def run(self, jobs: list[Job], report: Report) -> None:
        """Train every job; a failed run is reported and the others go on.

        What another process is training is waited for, and taken over if that process ends
        without finishing it. Must be called in the main thread, where signals arrive.

        Args:
            jobs: of the runs that are not done.
            report: called with every event of the training.

        Raises:
            InterruptedRunError: on Ctrl-C or SIGTERM.
            UserError: what no run can go on without is missing.
        """


@dataclass(frozen=True)
class Options:
    """What a user may say about where and how jobs run; an executor takes what concerns it.

    Attributes:
        store_root: the results folder.
        data_root: the folder that holds datasets.
        device: ``cpu``, ``cuda`` or ``cuda:0``; None takes CUDA where there is one.
        workers: jobs at a time; None is what the machines hold.
        threads: threads a worker; None is the executor's choice.
        checkpoint_minutes: how often checkpoints are written within an epoch.
        per_gpu: jobs that share a GPU; None is one.
        own: options of one executor alone, by the name of their flag without ``--``.
        compile: how students are compiled, one of :data:`COMPILE`.

    Raises:
        UserError: ``compile`` is none of them.
    """

    store_root: Path
    data_root: Path
    device: str | None = None
    workers: int | None = None
    threads: int | None = None
    checkpoint_minutes: float = 10.0
    per_gpu: int | None = None
    own: dict[str, Any] = field(default_factory=dict)
    compile: str = "off"

    def __post_init__(self) -> None:
        if self.compile not in COMPILE:
            raise UserError(f"--compile {self.compile!r} is unknown; valid: {', '.join(COMPILE)}")

    def only(self, *names: str) -> dict[str, Any]:
        """The own options of an executor that takes these.

        Raises:
            UserError: another one was given.
        """
        for name, value in self.own.items():
            if name not in names and value:
                raise UserError(f"--{name} does not belong to this --executor; leave it out")
        return {name: self.own.get(name) for name in names}


@dataclass(frozen=True)
class Assignment:
    """A job and all that a worker, in whatever process or machine, must know to train it."""

    job: Job
    store_root: str
    data_root: str
    device: str
    threads: int
    checkpoint_minutes: float
    compile: str = "off"
    plugins: tuple[Path, ...] = field(default_factory=registry.plugins)


def names() -> list[str]:
    """The executors there are: every file here that says how to ``create`` one."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [f.stem for f in files if re.search(r"^def create\(", f.read_text("utf-8"), re.M)]


def by_name(name: str, options: Options) -> Executor:
    """The executor of a name, which is that of its file.

    Raises:
        UserError: there is none, a package that it needs is not installed, or an option is
            wrong for it.
    """
    if name not in names():
        raise UserError(f"unknown executor {name!r}{registry.nearest(name, names())}")
    try:
        module = importlib.import_module(f"wcordbench.executors.{name}")
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "wcordbench":
            raise
        raise UserError(
            f"--executor {name} needs the package {package}, which is not installed; install it"
            f" with: pip install 'wcordbench[{name}]'"
        ) from None
    executor: Executor = module.create(options)
    return executor


def train(
    assignment: Assignment,
    report: Report,
    should_stop: Callable[[], bool],
    store: Store | None = None,
) -> None:
    """What a worker does: train one job and say what happens, until done or told to stop.

    Every error is reported, none raised: ``error`` is the user's and concerns all workers,
    ``crash`` is this worker's.

    Args:
        assignment: what to do.
        report: called with every event, the first of which says where the worker is.
        should_stop: asked often; when true, checkpoints are written and the worker leaves.
        store: where results go; None is the folder that the assignment names.
    """
    os.environ["OMP_NUM_THREADS"] = str(assignment.threads)
    try:
        import torch

        from wcordbench.training.cohort import Cohort
        from wcordbench.training.evaluation import StoppedError

        for plugin in assignment.plugins:  # a process of its own starts knowing none
            registry.add_plugin(plugin)
        torch.set_num_threads(assignment.threads)
        report(
            {
                "kind": "job",
                "runs": [r.name for r in assignment.job.runs],
                "device": device_of_host(assignment.device),
                "threads": assignment.threads,
                "host": socket.gethostname(),
                "pid": os.getpid(),
            }
        )
        with contextlib.suppress(StoppedError):
            Cohort(
                list(assignment.job.runs),
                store or Store(assignment.store_root),
                Path(assignment.data_root),
                torch.device(assignment.device),
                report,
                should_stop,
                assignment.checkpoint_minutes,
                assignment.compile,
            ).train()
    except UserError as error:
        report({"kind": "error", "reason": str(error)})
    except BaseException:
        report({"kind": "crash", "reason": traceback.format_exc()})
