"""Peak extra memory of every loss: python benchmarks/memory.py

What a method's forward and backward pass needs beyond its inputs (both networks' features),
its own parameters, buffers and their gradients, counted by torch's MemTracker.
"""

from __future__ import annotations

import torch
from common import CLASSES, batch_of, features, network, setup, write
from torch.distributed._tools.mem_tracker import MemTracker

from wcordbench import registry
from wcordbench.methods.base import Features, SecondView
from wcordbench.suite.schema import MethodSpec
from wcordbench.training.objective import Objective, undefined
from wcordbench.training.probe import leaves

PAIRS = [("resnet56", "resnet20"), ("resnet32x4", "resnet8x4")]


def bytes_of(tensors: list[torch.Tensor]) -> int:
    return sum(x.untyped_storage().nbytes() for x in tensors)


def peak(name: str, teacher: str, student: str, first: bool) -> tuple[float, float] | None:
    """MiB beyond the inputs, and MiB that the method keeps from step to step."""
    spec = MethodSpec(name=name)
    built = setup(teacher, student)
    config = {"gamma": 0.0, "terms": [t.model_dump() for t in spec.terms()]}
    if undefined(config, built):
        return None
    torch.manual_seed(0)
    loss_of = Objective(config, built)
    images, batch = batch_of(64)
    known, shown = features(network(teacher), images), leaves(features(network(student), images))
    if loss_of.second_view:
        batch = batch._replace(second=SecondView(leaves(shown), known))
    compute = loss_of.first_stage_loss if first else loss_of
    compute(shown, known, batch)  # what the first batch sets is not counted
    tracker = MemTracker()
    inputs = [*_tensors(shown), *_tensors(known), batch.labels, batch.indices]
    tracker.track_external(*inputs, loss_of)
    before = tracker.get_tracker_snapshot("current")[torch.device("cpu")]["Total"]
    with tracker:
        loss = compute(shown, known, batch)
        if loss.requires_grad:
            loss.backward()
    top = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    gradients = [p.grad for p in loss_of.parameters() if p.grad is not None]
    seen = [shown, *([batch.second.student] if batch.second is not None else [])]
    gradients += [x.grad for found in seen for x in _tensors(found) if x.grad is not None]
    kept = bytes_of([*loss_of.parameters(), *loss_of.buffers()])
    return (top - before - bytes_of(gradients)) / 2**20, kept / 2**20


def _tensors(found: Features) -> list[torch.Tensor]:
    last = [] if found.last_map is None else [found.last_map]
    return [found.stem, *found.stages, *found.stages_preact, found.pooled, found.logits, *last]


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for entry in sorted(registry.catalogue("method").values(), key=lambda e: e.name):
        if entry.name == "student":
            continue
        for first in [True, False] if entry.two_stage else [False]:
            row = {"method": entry.meta["title"], "stage": "first" if first else "main"}
            for teacher, student in PAIRS:
                found = peak(entry.name, teacher, student, first)
                text = ("N/A", "N/A") if found is None else [f"{x:.2f}" for x in found]
                row |= {f"{student}: extra": text[0], f"{student}: kept": text[1]}
            rows.append(row)
    write(
        "memory",
        "Peak extra memory of every loss",
        rows,
        [
            "MiB at batch 64 of 32×32 images, fp32, teachers resnet56 and resnet32x4."
            " *Extra*: the peak of one forward and backward pass beyond the features, the method's"
            " own state and all gradients. *Kept*: parameters and buffers from step to step (memory"
            f" banks of 50,000 images of {CLASSES} classes). By `python benchmarks/memory.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
