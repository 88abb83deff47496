"""What the benchmarks share: the machine's description, real learners, tables."""

from __future__ import annotations

import csv
import functools
import itertools
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcordbench import models
from wcordbench.data.base import Images
from wcordbench.data.batches import dataset_batches
from wcordbench.methods.base import Batch, Features, Setup
from wcordbench.results.store import RunFolder
from wcordbench.suite import Run, expand, load_suite
from wcordbench.suite.check import check_shapes
from wcordbench.suite.runs import Cell
from wcordbench.training.learner import Learner
from wcordbench.training.precision import autocast

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CLASSES, SIZE, IMAGES = 100, 32, 50_000
CPU = torch.device("cpu")


def defined(suite: str) -> list[Cell]:
    """The cells of one of the suites here, without the methods that are undefined for a pair."""
    loaded = load_suite(ROOT / "suites" / f"{suite}.yaml")
    undefined = {(u.pair.name, u.method.title) for u in check_shapes(loaded)}
    return [
        c for c in expand(loaded)
        if c.method is None or (c.pair.name, c.method.title) not in undefined
    ]  # fmt: skip


def machine() -> str:
    """One sentence: processor, cores, memory, load, torch, threads, device."""
    name = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return (
        f"{name}, {os.cpu_count()} cores, {gib:.0f} GiB, {device}; torch {torch.__version__},"
        f" {torch.get_num_threads()} thread(s); load average at the end"
        f" {os.getloadavg()[0]:.1f}"
    )


def labels(count: int = IMAGES) -> Tensor:
    """CIFAR-100's labels: as many images of every class."""
    return torch.arange(count) % CLASSES


def batch_of(size: int, seed: int = 0) -> tuple[Tensor, Batch]:
    """A batch as the training gets it: ``(B, 3, 32, 32)`` channels-last, labels, indices."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator)
    indices = torch.randperm(IMAGES, generator=generator)[:size]
    return images.to(memory_format=torch.channels_last), Batch(labels()[indices], indices)


def network(name: str, images: Tensor | None = None) -> torch.nn.Module:
    """A network as the training holds a teacher: fresh weights, batch norms that know the images.

    Without their statistics the features of deep networks grow beyond what any teacher gives,
    and FT's paraphraser, which has no batch norm, diverges on them.

    Args:
        name: as a suite names it.
        images: what it will see, ``(B, 3, 32, 32)``; by default :func:`batch_of`'s.
    """
    torch.manual_seed(0)
    net = models.create(name, CLASSES, SIZE).requires_grad_(False)
    net = net.to(memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean over batches
    with torch.no_grad():
        net.train()(batch_of(64)[0] if images is None else images)
    return net.eval()


def setup(teacher: str, student: str, device: torch.device = CPU) -> Setup:
    """What a method is built for, for the whole of CIFAR-100; the teacher's part on a device."""
    shapes = (models.feature_shapes(name, CLASSES, SIZE) for name in (student, teacher))
    nets = [network(name) for name in (student, teacher)]
    for net in nets:  # the tracker of memory hangs a hook on every weight that is called
        models.classifier_of(net).requires_grad_()
    nets[1].to(device)
    return Setup(
        *shapes, CLASSES, labels(), *map(models.classifier_of, nets), models.norms_of(nets[1]), 64
    )


def learner(run: Run, batch_size: int = 64, device: torch.device = CPU) -> Learner:
    """The suite's own learner of a run, at its first step; it writes no files."""
    teacher = run.config["teacher"]
    built = setup(teacher["model"], run.config["model"], device) if teacher else None
    folder = RunFolder(Path(tempfile.gettempdir()) / "unwritten")
    steps = -(-IMAGES // batch_size)
    return Learner(run, folder, built, SIZE, 3, CLASSES, steps, device)


def features(net: torch.nn.Module, images: Tensor, precision: str = "fp32") -> Features:
    """A teacher's features of a batch."""
    with torch.no_grad(), autocast(precision, images.device):
        found: Features = net(images)
    return found


@functools.cache
def pixels() -> Images:
    """As many random 32×32 images as CIFAR-100 has: augmentation costs the same on any."""
    values = np.random.default_rng(0).integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8)
    return Images(values, labels().numpy())


def batches_of(
    config: dict[str, Any], batch_size: int, device: torch.device = CPU
) -> Iterator[tuple[Tensor, Batch]]:
    """The training's own batches of :func:`pixels`, without end."""
    changed = {**config, "train": {**config["train"], "batch_size": batch_size}}
    drawn = dataset_batches(changed, pixels(), device)
    for epoch in itertools.count():
        yield from drawn.epoch(epoch)


def benchmark_runs(
    teacher: str, student: str, methods: list[str], precision: str = "fp32"
) -> dict[str, Run]:
    """The runs of the paper's protocol at seed 0, by method; none of a method undefined here."""
    suite = load_suite(
        ROOT / "suites" / "cifar100.yaml",
        [
            f"pairs=[{{teacher: {teacher}, student: {student}}}]",
            f"methods=[{', '.join(methods)}]",
            "seeds=[0]",
            f"train.precision={precision}",
        ],
    )
    undefined = {u.method.name for u in check_shapes(suite)}
    return {
        c.method.name: c.run
        for c in expand(suite)
        if c.method is not None and c.method.name not in undefined
    }


def timed(action: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    """Seconds that something took, and what it gave."""
    before = clock()
    found = action()
    return clock() - before, found


def median(values: Iterable[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def milliseconds(seconds: Iterable[float]) -> float:
    """The median, in milliseconds."""
    return 1000 * statistics.median(seconds)


def write(
    name: str, title: str, rows: list[dict[str, Any]], text: Iterable[str], partial: bool = False
) -> None:
    """Print a table and store it as ``<name>.csv`` and ``<name>.md``; ``partial``: only print."""
    from tabulate import tabulate

    body = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    page = "\n".join([f"# {title}", "", *text, "", machine() + ".", "", body, ""])
    print(page)
    if partial:
        return
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
