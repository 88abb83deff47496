"""KD, CRD and both critics of WCoRD: bf16, one class, one image, two; as the baselines' tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wcordbench.methods.base import Batch, Features, FeatureShapes, Setup
from wcordbench.suite.schema import MethodSpec
from wcordbench.training.objective import Objective

CASES = {
    "kd": {"name": "kd"}, "crd": {"name": "crd"}, "nce": {"name": "wcord"},
    "dual": {"name": "wcord", "critic": "dual"},
}  # fmt: skip
CLASSES, IMAGES = 10, 500
LABELS = torch.arange(IMAGES) % CLASSES


def build(case: str) -> Objective:
    spec = MethodSpec(**CASES[case])
    maps = ((4, 4, 4),)
    setup = Setup(
        FeatureShapes((4, 4, 4), maps, 16, CLASSES),
        FeatureShapes((4, 4, 4), maps, 24, CLASSES),
        CLASSES,
        LABELS,
    )
    config = {"gamma": spec.cross_entropy(), "terms": [t.model_dump() for t in spec.terms()]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Objective(config, setup)
    made.manual_seed(0)
    return made


def features(pooled: int, size: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.zeros(size, 4, 4, 4)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator).requires_grad_()

    return Features(maps, (maps,), (maps,), leaf(pooled), leaf(CLASSES))


def loss(case: str, size: int, indices: Tensor, bf16: bool = False, **dtype: Any) -> Tensor:
    made = build(case)
    student, teacher = features(16, size, 1), features(24, size, 2).detach()
    if dtype:
        student = student._replace(
            pooled=student.pooled.to(**dtype), logits=student.logits.to(**dtype)
        )
        teacher = teacher._replace(
            pooled=teacher.pooled.to(**dtype), logits=teacher.logits.to(**dtype)
        )
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        value: Tensor = made(student, teacher, Batch(LABELS[indices], indices))
    value.backward()
    for leaf in (student.pooled, student.logits):
        grad = leaf.grad if leaf.is_leaf else None
        assert grad is None or torch.isfinite(grad).all()
    return value


@pytest.mark.parametrize("case", CASES)
def test_one_class_in_the_batch(case: str) -> None:
    assert torch.isfinite(loss(case, 8, torch.arange(8) * CLASSES))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_small_batches(case: str, size: int) -> None:
    assert torch.isfinite(loss(case, size, torch.arange(size)))


@pytest.mark.parametrize("case", CASES)
def test_bf16_within_two_percent(case: str) -> None:
    """Under autocast, of features that autocast itself made bf16."""
    indices = torch.arange(64)
    exact = loss(case, 64, indices).item()
    assert loss(case, 64, indices, bf16=True).item() == pytest.approx(exact, rel=0.02)
    rounded = loss(case, 64, indices, bf16=True, dtype=torch.bfloat16).item()
    assert rounded == pytest.approx(exact, rel=0.02)
