"""The later methods on the logits away from the easy case: extreme logits, tiny batches, bf16."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from wcordbench import registry
from wcordbench.methods.base import Batch, Features, FeatureShapes, Method, Setup

NAMES = ("dkd", "kd_ls", "dkd_ls", "ctkd", "ctkd_ls", "dist", "ttm", "wttm", "rld")
CLASSES = 10


def build(name: str, classes: int = CLASSES) -> Method:
    shapes = FeatureShapes((1, 1, 1), ((1, 1, 1),), 4, classes)
    setup = Setup(shapes, shapes, classes, torch.arange(4 * classes) % classes)
    method: Method = registry.get("method", name).load()(setup)
    return method


def of(logits: Tensor) -> Features:
    return Features(logits, (), (), logits, logits)


def draw(size: int, seed: int, classes: int = CLASSES) -> Tensor:
    return 4 * torch.randn(size, classes, generator=torch.Generator().manual_seed(seed))


def loss(method: Method, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
    if labels is None:
        labels = torch.arange(len(student)) % student.shape[1]
    value: Tensor = method(of(student), of(teacher), Batch(labels, torch.arange(len(student))))
    return value


def assert_finite(method: Method, student: Tensor, teacher: Tensor) -> None:
    leaf = student.clone().requires_grad_()
    value = loss(method, leaf, teacher)
    value.backward()
    assert value.shape == () and value.isfinite()
    assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 2, 8])
def test_certain_networks(name: str, size: int) -> None:
    """Logits so large that all other classes' probability is zero, right and wrong."""
    certain = torch.full((size, CLASSES), -1e4).scatter(1, torch.arange(size)[:, None], 1e4)
    for student, teacher in (
        (certain, certain), (certain, certain.roll(1, 1)), (draw(size, 0), certain),
        (certain, draw(size, 0)),
    ):  # fmt: skip
        assert_finite(build(name), student, teacher)


@pytest.mark.parametrize("name", NAMES)
def test_equal_logits(name: str) -> None:
    zero = torch.zeros(3, CLASSES)
    assert_finite(build(name), zero, zero)
    assert_finite(build(name), draw(3, 0), zero)
    assert_finite(build(name), zero, draw(3, 0))


@pytest.mark.parametrize("name", NAMES)
def test_two_classes(name: str) -> None:
    assert_finite(build(name, 2), draw(4, 0, 2), draw(4, 1, 2))


@pytest.mark.parametrize("name", ["dkd", "kd_ls", "dkd_ls", "ctkd_ls", "rld"])
def test_one_class_is_undefined(name: str) -> None:
    shapes = FeatureShapes((1, 1, 1), ((1, 1, 1),), 4, 1)
    reason = registry.get("method", name).load().unsupported(
        Setup(shapes, shapes, 1, torch.zeros(4, dtype=torch.int64))
    )  # fmt: skip
    assert "classes" in reason


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("ttm", "wttm", "rld")])
def test_zero_at_the_teachers_logits(name: str) -> None:
    logits = draw(8, 0)
    assert loss(build(name), logits, logits).item() == pytest.approx(0, abs=1e-4)
    assert loss(build(name), draw(8, 1), logits) > 1e-3


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith("_ls")])
def test_standardised_losses_know_no_scale(name: str) -> None:
    student, teacher = draw(8, 0), draw(8, 1)
    plain = loss(build(name), student, teacher)
    assert loss(build(name), 3 * student + 1, teacher / 2 - 5).item() == pytest.approx(
        plain.item(), rel=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    student, teacher = draw(8, 0).bfloat16(), draw(8, 1).bfloat16()
    exact = loss(build(name), student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(build(name), student, teacher)
    assert value.dtype == torch.float32
    assert value == exact


@pytest.mark.parametrize("name", NAMES)
def test_float64_stays(name: str) -> None:
    method = build(name)
    value = loss(method, draw(8, 0).double(), draw(8, 1).double())
    assert value.dtype == torch.float64


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_receives_no_gradient(name: str) -> None:
    teacher = draw(8, 1).requires_grad_()
    loss(build(name), draw(8, 0).requires_grad_(), teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_a_value(name: str) -> None:
    """On tensors without values, whose ``.item()`` and whose truth raise."""
    with FakeTensorMode():
        student = torch.empty(8, CLASSES, requires_grad=True)
        loss(build(name), student, torch.empty(8, CLASSES)).backward()
        assert student.grad is not None


def test_dkd_of_others_too_small_for_their_probability() -> None:
    """The true class takes all but e^-60, of which the float32 difference from 1 is zero."""
    student, teacher = torch.zeros(1, 3), torch.zeros(1, 3)
    student[0, 0], teacher[0, 0] = 240.0, 244.0
    value = loss(build("dkd"), student.requires_grad_(), teacher, torch.tensor([0]))
    assert value.isfinite() and value < 1e-3


def test_rld_without_a_class_below() -> None:
    """The true class is the teacher's last: nothing but the confidence is left."""
    from wcordbench.methods.rld import masked_divergence

    teacher, student = draw(4, 0), draw(4, 1).requires_grad_()
    rows = masked_divergence(student, teacher, teacher.argmin(1), 4.0)
    rows.sum().backward()
    assert (rows == 0).all()
    assert student.grad is not None and (student.grad == 0).all()


def test_ctkd_ascends_and_leaves_the_student_alone() -> None:
    """θ's gradient has the sign of an ascent; the student's does not depend on the epoch."""
    method, gradients = build("ctkd"), []
    for epoch in (1, 10):
        student = draw(8, 0).requires_grad_()
        method.zero_grad()
        batch = Batch(torch.zeros(8, dtype=torch.int64), torch.arange(8), epoch, 240)
        method(of(student), of(draw(8, 1)), batch).backward()
        gradients.append((student.grad, method.temperature.theta.grad.clone()))
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    ratio = (gradients[0][1] / gradients[1][1]).item()
    assert ratio == pytest.approx(method.temperature.reversal(1) / -1, rel=1e-4)
    assert method.temperature.reversal(1) == pytest.approx(-0.0245, abs=1e-3)
