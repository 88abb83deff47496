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


def test_mlkds_shares_keep_the_median() -> None:
    """Of the teacher's certainty; of an odd number of images and classes, more than half."""
    from wcordbench.methods.mlkd import least_confident

    images, classes = least_confident(draw(5, 0, 7), 50.0)
    assert (images.item(), classes.item()) == pytest.approx((3 / 5, 4 / 7))
    p = torch.softmax(draw(6, 1, 7), 1)
    kept = [x <= torch.quantile(x, 0.25) for x in (p.amax(1), p.sum(0))]
    assert least_confident(draw(6, 1, 7), 25.0) == tuple(k.float().mean() for k in kept)


def test_wkds_distances_are_of_the_classes_first_images() -> None:
    """Whatever the batches; a larger class's further images are left out."""
    from wcordbench.methods.wkd_l import class_distances, transport_cost

    labels = torch.tensor([2, 0, 1, 1, 0, 2, 0, 1, 2, 0, 0])
    maps = torch.randn(len(labels), 5, 2, 2, generator=torch.Generator().manual_seed(0))
    shapes = FeatureShapes((1, 1, 1), ((1, 1, 1),), 5, 3, (5, 2, 2))
    setup = Setup(shapes, shapes, 3, labels)
    kind = registry.get("method", "wkd_l").load()
    assert kind.unsupported(setup) is None
    method = kind(setup)
    rows = [maps[labels == c][:3].flatten(2).mT.flatten(0, 1) for c in range(3)]
    expected = transport_cost(class_distances(torch.stack(rows)), 1.0)
    for size in (1, 4, 11):
        batches = zip(maps.split(size), labels.split(size), strict=True)
        method.prepare(
            (Features(m, (), (), m.mean((2, 3)), torch.zeros(len(m), 3), m), y) for m, y in batches
        )
        torch.testing.assert_close(method.cost, expected)
    short = setup._replace(labels=torch.tensor([0, 0, 1, 1, 2]))
    assert "one has 1" in kind.unsupported(short)


def test_a_class_without_variance_is_at_distance_one() -> None:
    from wcordbench.methods.wkd_l import class_distances

    features = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    features[1] = 2.0
    distances = class_distances(features)
    assert distances.isfinite().all()
    assert distances[1].tolist() == [1, 0, 1]
    assert torch.equal(distances, distances.mT)
