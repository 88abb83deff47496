"""KD against the reference, in half precision and at extreme logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wcordbench import registry
from wcordbench.methods import Batch, Features, FeatureShapes, Setup
from wcordbench.methods.kd import KD, kd_loss
from wcordbench.methods.student import Student

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"
SHAPES = FeatureShapes((1, 1, 1), ((1, 1, 1),), 4, 10)
SETUP = Setup(SHAPES, SHAPES, 10, torch.arange(10))


def features(logits: Tensor) -> Features:
    return Features(logits, (), (), logits, logits)


def test_golden() -> None:
    with np.load(GOLDEN / "kd.npz") as file:
        golden = {name: torch.from_numpy(np.asarray(file[name])) for name in file}
    student = golden["in_s"].requires_grad_()
    loss = kd_loss(student, golden["in_t"], 4.0)
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden["loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(student.grad, golden["grad_s"], rtol=1e-3, atol=1e-7)


def test_is_zero_for_equal_logits_and_never_negative() -> None:
    logits = torch.randn(5, 10)
    assert kd_loss(logits, logits + 3, 4.0).item() == pytest.approx(0, abs=1e-5)
    assert kd_loss(logits, torch.randn(5, 10), 4.0) > 0


@pytest.mark.parametrize("batch", [1, 2])
def test_extreme_logits_stay_finite(batch: int) -> None:
    student = torch.full((batch, 10), -1e4)
    student[:, 0] = 1e4
    student.requires_grad_()
    teacher = torch.zeros(batch, 10)
    teacher[:, 1] = 1e4
    loss = kd_loss(student, teacher, 4.0)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = torch.randn(2, 8, 10).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = kd_loss(student, teacher, 4.0)
    assert loss.dtype == torch.float32
    assert loss == kd_loss(student.float(), teacher.float(), 4.0)


def test_methods_and_their_registration() -> None:
    method = KD(SETUP, temperature=2.0)
    s, t = torch.randn(2, 3, 10)
    batch = Batch(torch.zeros(3).long(), torch.arange(3))
    assert method(features(s), features(t), batch) == kd_loss(s, t, 2.0)
    assert Student(SETUP)(features(s), features(t), batch) == 0
    kd, student = registry.get("method", "kd"), registry.get("method", "student")
    assert (kd.meta["gamma"], kd.meta["beta"]) == (0.1, 0.9)
    assert student.meta["beta"] == 0
    assert kd.options["temperature"].default == 4.0
