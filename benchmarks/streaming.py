"""Streamed images: peak memory at three sizes of a dataset; a cohort of four beside four loops.

Images are JPEG files of 500×375 pixels, the usual size of ImageNet's, read at 224 pixels. The
student is small (resnet8 on 32 pixels), so that decoding takes the time, as it does beside a GPU.

    python benchmarks/streaming.py [--images 1200] [--folder FOLDER]

Rates are images a second of processor time, all processes together: other work on the machine
hardly changes them. Memory is the largest sum of PSS over all processes, sampled every 0.1 s.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ALLOWED = 0.02
SUITE = """
name: streaming
dataset:
  name: imagefolder
  options: {folder: FOLDER, image_size: 224}
  size: 32
  mean: [0.5, 0.5, 0.5]
  std: [0.25, 0.25, 0.25]
  memory: MEMORY
  cache: CACHE
train:
  epochs: 1
  batch_size: 64
  learning_rate: 0.05
  schedule: {type: one_cycle}
  augment: {crop_padding: 4, flip: true}
seeds: [0]
pairs: [{teacher: resnet8, student: resnet8}]
methods:
  - student
  - {name: student, label: b, train: {learning_rate: 0.04}}
  - {name: student, label: c, train: {learning_rate: 0.03}}
  - {name: student, label: d, train: {learning_rate: 0.02}}
"""


def make(folder: Path, images: int) -> None:
    """So many files of eight photograph-like images, hard-linked: a decoder does not know."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", images), ("test", 16)):
        for i in range(count):
            file = folder / split / "ab"[i % 2] / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            first = folder / "train" / "ab"[i % 2] / f"{i % 8}.jpg"
            if first.is_file():
                os.link(first, file)
                continue
            small = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8))
            small.resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)


def used() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def ours(place: Path, name: str, cache: str = "null") -> float:
    """Processor seconds of a cohort of four, streamed; after the survey that is made once."""
    import torch

    from wcordbench.results.store import Store
    from wcordbench.suite import expand, load_suite
    from wcordbench.training.cohort import Cohort

    torch.set_num_threads(1)
    suite = place / f"{name}.yaml"
    text = SUITE.replace("FOLDER", name).replace("MEMORY", str(ALLOWED))
    suite.write_text(text.replace("CACHE", cache))
    runs = list(dict.fromkeys(c.run for c in expand(load_suite(suite)) if not c.is_teacher))
    assert len(runs) == 4
    before = 0.0

    def report(event: dict[str, object]) -> None:
        nonlocal before
        if event["kind"] == "loaded":
            before = used()

    cohort = Cohort(
        runs, Store(place / f"out-{name}-{os.getpid()}"), place, torch.device("cpu"), report
    )
    cohort.train()
    assert cohort.dataset.streamed
    stream = cohort.batches.stream
    assert stream is not None
    stream.loader = None  # its processes end, and are counted
    del cohort, stream
    return used() - before


def cached(place: Path, name: str) -> float:
    """The same, from squares of 224 pixels that are kept on disk."""
    return ours(place, name, "224")


def plain(place: Path, name: str) -> float:
    """Processor seconds of one loop as anyone writes it, of the same transforms and student."""
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from wcordbench import models

    torch.set_num_threads(1)
    steps = [
        transforms.Resize(224), transforms.CenterCrop(224), transforms.Resize(32),
        transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.25] * 3),
    ]  # fmt: skip
    images = ImageFolder(str(place / name / "train"), transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(images, 64, shuffle=True, num_workers=1)
    student = models.create("resnet8", 2)
    optimizer = torch.optim.SGD(student.parameters(), 0.05, 0.9, weight_decay=5e-4)
    before = used()
    for pixels, labels in loader:
        loss = torch.nn.functional.cross_entropy(student(pixels).logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return used() - before


def peak(command: list[str]) -> tuple[float, float]:
    """GiB at most while a command runs, of it and of all that it starts; and what it prints."""
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            most = max(most, sum(pss(pid) for pid in family(process.pid)))
            time.sleep(0.1)
        assert process.stdout is not None and process.returncode == 0
        return most / 2**20, float(json.loads(process.stdout.read().splitlines()[-1]))


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for child in below for p in family(int(child)))]


def pss(pid: int) -> int:
    """KiB, pages that are shared counted in parts."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in lines if x.startswith("Pss:")), 0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role:
        roles = {"ours": ours, "cached": cached, "plain": plain}
        print(json.dumps(roles[given.role[0]](given.folder, given.role[1])))
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "WCORDBENCH_LOADERS": "1"}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        place = Path(folder)

        def run(role: str, name: str) -> tuple[float, float]:
            me = [sys.executable, __file__, "--folder", folder, "--role", role, name]
            return peak(me)

        for times in (1, 4, 16):
            count = given.images * times // 4
            make(place / f"x{times}", count)
            gib, _ = run("ours", f"x{times}")
            decoded = count * 224 * 224 * 3 / 2**30
            print(
                f"{count} images, {decoded:.2f} GiB decoded, {ALLOWED} allowed: peak {gib:.2f} GiB",
                flush=True,
            )
        # At the largest size: the seconds that processes take to start are no part of a rate.
        cohort = [4 * count / run("ours", "x16")[1] for _ in range(2)]
        loops = [count / run("plain", "x16")[1] for _ in range(2)]
        squares = max(4 * count / run("cached", "x16")[1] for _ in range(2))
        a, b = max(cohort), max(loops)
        print(
            f"images a second of processor time, {count} images: cohort of four {a:.0f}, four plain"
            f" loops {b:.0f}, {a / b:.2f} times; from kept squares (cache: 224) {squares:.0f}"
        )


if __name__ == "__main__":
    main()
