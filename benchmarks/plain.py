"""The suite against a plain implementation of the same steps: python benchmarks/plain.py

The plain one is what a careful reader of the papers writes first, with the usual parts: PIL
transforms of each image in a DataLoader with workers, negatives drawn for each image by numpy
without replacement, bank rows gathered into a batch × negatives × width tensor, fp32, contiguous
memory, one run at a time. It computes the same losses of the same networks on the same images.
Both are timed end to end, data included, in turns, on as many cores as there are.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from common import (
    CLASSES,
    IMAGES,
    SIZE,
    batches_of,
    benchmark_runs,
    features,
    labels,
    learner,
    median,
    network,
    pixels,
    timed,
    write,
)  # fmt: skip
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from wcordbench import models

BATCH, NEGATIVES, WIDTH, TEMPERATURE, MOMENTUM = 64, 16384, 128, 0.07, 0.5
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]
#: plain / ours, at least
TARGETS = {"kd": 2.0, "crd": 5.0}
#: what trains in a cohort with it
BESIDE = {"kd": ["at", "sp", "pkt"], "crd": ["crd+kd", "wcord", "wcord+kd"]}
#: seconds of steps before any are timed
SETTLE = 4.0
TEACHER, STUDENT = "resnet56", "resnet20"


class PlainData(Dataset[tuple[Tensor, int, int, Tensor]]):
    """Images one by one; with negatives, each draws its own among the other classes."""

    def __init__(self, negatives: int) -> None:
        self.images, self.targets, self.negatives = pixels().pixels, labels().numpy(), negatives
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )
        self.others = [np.flatnonzero(self.targets != c) for c in range(CLASSES)]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int, int, Tensor]:
        image = self.transform(Image.fromarray(self.images[index]))
        target = int(self.targets[index])
        drawn = np.empty(0, dtype=np.int64)
        if self.negatives:
            drawn = np.random.choice(self.others[target], self.negatives, replace=False)
        return image, target, index, torch.from_numpy(drawn)


class PlainCRD(nn.Module):
    """Contrastive representation distillation with gathered bank rows."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(student, WIDTH), nn.Linear(teacher, WIDTH)])
        bound = (3 / WIDTH) ** 0.5
        for name in ("bank_student", "bank_teacher"):
            self.register_buffer(name, torch.empty(IMAGES, WIDTH).uniform_(-bound, bound))
        self.z: list[float | None] = [None, None]

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, drawn: Tensor) -> Tensor:
        """The loss of both sides; moves the banks."""
        embedded = [F.normalize(h(x)) for h, x in zip(self.heads, (student, teacher), strict=True)]
        banks = [self.get_buffer("bank_teacher"), self.get_buffer("bank_student")]
        columns = torch.cat([index[:, None], drawn], 1)
        loss = embedded[0].new_zeros(())
        for side, (anchor, bank) in enumerate(zip(embedded, banks, strict=True)):
            rows = bank[columns.reshape(-1)].reshape(len(index), NEGATIVES + 1, WIDTH)
            score = torch.exp(torch.bmm(rows, anchor[:, :, None]).squeeze(2) / TEMPERATURE)
            if self.z[side] is None:
                self.z[side] = score.mean().item() * IMAGES
            likelihood = score / self.z[side]
            noise = NEGATIVES / IMAGES
            positive = torch.log(likelihood[:, 0] / (likelihood[:, 0] + noise + 1e-7))
            negative = torch.log(noise / (likelihood[:, 1:] + noise + 1e-7))
            loss = loss - (positive.sum() + negative.sum()) / len(index)
        with torch.no_grad():
            for bank, new in zip(banks, embedded[::-1], strict=True):
                bank[index] = F.normalize(MOMENTUM * bank[index] + (1 - MOMENTUM) * new)
        return loss


class Plain:
    """One run of the plain implementation, a step at a time."""

    def __init__(self, method: str, workers: int) -> None:
        torch.manual_seed(0)
        self.method = method
        self.teacher = network(TEACHER).to(memory_format=torch.contiguous_format)
        self.student = models.create(STUDENT, CLASSES, SIZE)
        self.crd = PlainCRD(64, 64)
        parameters = [*self.student.parameters()]
        parameters += self.crd.parameters() if method == "crd" else []
        self.optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
        loader = DataLoader(
            PlainData(NEGATIVES if method == "crd" else 0), BATCH, shuffle=True,
            num_workers=workers,
        )  # fmt: skip
        self.batches = self._forever(loader)

    @staticmethod
    def _forever(loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
        while True:
            yield from loader

    def step(self) -> None:
        """Load, forward, backward, optimise, and look at the loss as such loops do."""
        images, target, index, drawn = next(self.batches)
        self.student.train()
        found = self.student(images)
        with torch.no_grad():
            known = self.teacher(images)
        loss = F.cross_entropy(found.logits, target)
        if self.method == "kd":
            warm = F.log_softmax(found.logits / 4, 1), F.softmax(known.logits / 4, 1)
            loss = loss + F.kl_div(*warm, reduction="batchmean") * 16
        else:
            loss = loss + 0.8 * self.crd(found.pooled, known.pooled, index, drawn)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()


class Ours:
    """Runs of the suite's own loop, a step at a time."""

    def __init__(self, methods: list[str]) -> None:
        runs = benchmark_runs(TEACHER, STUDENT, methods)
        self.learners = [learner(run, BATCH) for run in runs.values()]
        for trained in self.learners:
            trained.start_epoch()
        config = next(iter(runs.values())).config
        self.batches, self.teacher = batches_of(config, BATCH), network(TEACHER)

    def step(self) -> None:
        """Draw, see, train everybody."""
        images, batch = next(self.batches)
        known = features(self.teacher, images)
        for trained in self.learners:
            trained.train_step(images, known, batch)


def measure(
    method: str, rounds: int, steps: int, workers: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """Plain and ours in turns, several steps each.

    The loader's workers are ahead by some batches: the plain loop would have its data for
    nothing, and ours would pay for it. So each takes steps for a while before it is timed.
    """
    cases = {
        "plain": Plain(method, workers),
        "alone": Ours([method]),
        "together": Ours([method, *BESIDE[method]]),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}

    def several(one: Plain | Ours) -> None:
        for _ in range(steps):
            one.step()

    for round_ in range(rounds + 1):
        for name, one in cases.items():
            end, lead = time.monotonic() + SETTLE, 2 * workers
            while lead > 0 or time.monotonic() < end:
                one.step()
                lead -= 1
            seconds, _ = timed(lambda o=one: several(o), clock)
            runs = len(one.learners) if isinstance(one, Ours) else 1
            times[name] += [seconds / steps / runs] * bool(round_)  # the first one warms up

    def faster(name: str) -> float:
        return median(p / o for p, o in zip(times["plain"], times[name], strict=True))

    factor = faster("alone")
    return {
        "method": method,
        "plain ms": f"{1000 * median(times['plain']):.0f}",
        "ours ms": f"{1000 * median(times['alone']):.0f}",
        "times faster": f"{factor:.2f}",
        "target": f"{TARGETS[method]:.1f}",
        "met": "yes" if factor >= TARGETS[method] else "no",
        "in a cohort of four": f"{faster('together'):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    rows = [
        measure(m, arguments.rounds, arguments.steps, cores, time.perf_counter) for m in TARGETS
    ]
    write(
        "plain",
        "The suite against a plain implementation",
        rows,
        [
            f"Milliseconds a step end to end, {TEACHER}→{STUDENT}, batch {BATCH} of 32×32 images,"
            f" {cores} core(s), one run alone (last: times faster a run of a cohort of four);"
            f" medians of {arguments.rounds} rounds of {arguments.steps} steps in turns. The plain"
            f" loop has {cores} DataLoader worker(s) beside {cores} compute thread(s). By"
            " `python benchmarks/plain.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
