"""The baselines away from the easy case: every pair's shapes, degenerate batches, bf16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, Features, FeatureShapes, Method, Setup
from wcordbench.methods.regressor import pool_to_smaller, regressor
from wcordbench.methods.rkd import angle_cosines, relational_loss, relative_distances

#: β of each method
WEIGHTS = {
    "fitnet": 100.0, "at": 1000.0, "sp": 3000.0, "cc": 0.02, "vid": 1.0, "rkd": 1.0,
    "pkt": 30000.0, "ab": 1.0, "ft": 200.0, "fsp": 50.0, "nst": 50.0,
}  # fmt: skip
CLASSES = 10
PAIRS = json.loads((Path(__file__).parent.parent / "reference" / "pairs.json").read_text())
#: pairs (teacher, student) whose stem and stages have different channels
FSP_UNDEFINED = [
    ["wrn_40_2", "wrn_40_1"], ["vgg13", "mobilenetv2"], ["ResNet50", "mobilenetv2"],
    ["ResNet50", "vgg8"], ["resnet32x4", "shufflenetv1"], ["resnet32x4", "shufflenetv2"],
    ["wrn_40_2", "shufflenetv1"],
]  # fmt: skip

#: a small pair with every regressor's case: equal, half, and twice the teacher's size
STUDENT = FeatureShapes((4, 16, 16), ((4, 16, 16), (6, 4, 4), (8, 4, 4)), 8, CLASSES)
TEACHER = FeatureShapes((4, 16, 16), ((4, 16, 16), (10, 8, 8), (12, 2, 2)), 12, CLASSES)


def shapes(name: str) -> FeatureShapes:
    stem, *stages, (pooled,) = PAIRS["shapes"][name]
    return FeatureShapes(tuple(stem), tuple(map(tuple, stages)), pooled, CLASSES)


def build(
    name: str, student: FeatureShapes = STUDENT, teacher: FeatureShapes = TEACHER, **options: Any
) -> Method:
    setup = Setup(student, teacher, CLASSES, torch.arange(40) % CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method: Method = registry.get("method", name).load()(setup, **options)
    return method


def draw(of: FeatureShapes, size: int, seed: int = 0, grad: bool = True) -> Features:
    """Random features whose maps are those before the ReLU, rectified."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator).requires_grad_(grad)

    preact = tuple(leaf(*stage) for stage in of.stages)
    stages = tuple(x.relu() for x in preact)
    return Features(leaf(*of.stem), stages, preact, leaf(of.pooled), leaf(of.logits))


def leaves(features: Features) -> list[Tensor]:
    return [features.stem, *features.stages_preact, features.pooled, features.logits]


def transform(features: Features, change: Any) -> Features:
    """New leaves ``change(x)``, again with rectified stages."""
    stem, *preact, pooled, logits = (
        change(x.detach()).clone().requires_grad_() for x in leaves(features)
    )
    return Features(stem, tuple(x.relu() for x in preact), tuple(preact), pooled, logits)


def batch(size: int, one_class: bool = False) -> Batch:
    labels = torch.zeros(size, dtype=torch.int64) if one_class else torch.arange(size) % CLASSES
    return Batch(labels, torch.arange(size))


def losses(method: Method, student: Features, teacher: Features) -> list[Tensor]:
    """The method's term, and its first stage's loss if it has one."""
    b = batch(len(student.logits))
    found = [method(student, teacher, b)]
    if method.first_stage is not None:
        found.append(method.first_stage_loss(student, teacher, b))
    return found


def assert_finite(method: Method, student: Features, teacher: Features) -> None:
    """The losses and all gradients, of features and parameters, are finite."""
    for loss in losses(method, student, teacher):
        assert loss.shape == ()
        assert loss.isfinite()
        if loss.requires_grad:
            loss.backward()
    for tensor in [*leaves(student), *method.parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all()


def supported(name: str) -> tuple[FeatureShapes, FeatureShapes]:
    """A small pair that the method is defined for."""
    return (STUDENT, STUDENT) if name == "fsp" else (STUDENT, TEACHER)


# --- the benchmark's pairs ---------------------------------------------------------


def parameters(name: str, student: FeatureShapes, teacher: FeatureShapes) -> int:
    with FakeTensorMode():
        return sum(p.numel() for p in build(name, student, teacher).parameters())


@pytest.mark.parametrize("pair", PAIRS["pairs"], ids="-".join)
@pytest.mark.parametrize("name", WEIGHTS)
def test_every_pair(name: str, pair: list[str]) -> None:
    teacher, student = map(shapes, pair)
    cls = registry.get("method", name).load()
    reason = cls.unsupported(Setup(student, teacher, CLASSES, torch.arange(40) % CLASSES))
    if name == "fsp" and pair in FSP_UNDEFINED:
        assert "channels" in reason
        with pytest.raises(UserError, match="channels"):
            build(name, student, teacher)
        return
    assert reason is None
    if parameters(name, student, teacher) > 25e6:  # shapes alone; gigabytes of autoencoder
        with FakeTensorMode():
            method = build(name, student, teacher)
            found = losses(method, draw_fake(student, 2), draw_fake(teacher, 2))
            assert all(loss.shape == () for loss in found)
        return
    method = build(name, student, teacher)
    with torch.no_grad():
        found = losses(method, draw(student, 3, 1), draw(teacher, 3, 2))
    assert all(loss.isfinite() and loss.shape == () for loss in found)
    assert max(found) > 0


def draw_fake(of: FeatureShapes, size: int) -> Features:
    stages = tuple(torch.empty(size, *stage) for stage in of.stages)
    vectors = torch.empty(size, of.pooled), torch.empty(size, of.logits)
    return Features(torch.empty(size, *of.stem), stages, stages, *vectors)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("deeper", ["student", "teacher"])
def test_stages_are_matched_from_the_first(name: str, deeper: str) -> None:
    """More stages in one network change a method only where it uses the last one."""
    student, teacher = (STUDENT, STUDENT) if name == "fsp" else (STUDENT, TEACHER)
    extra = (16, 2, 2)
    if deeper == "student":
        student = student._replace(stages=(*student.stages, extra))
    else:
        teacher = teacher._replace(stages=(*teacher.stages, extra))
    if name == "fsp":
        with pytest.raises(UserError, match="channels"):
            build(name, student, teacher)
        return
    assert_finite(build(name, student, teacher), draw(student, 3, 1), draw(teacher, 3, 2, False))


@pytest.mark.parametrize("name", WEIGHTS)
def test_registered_weights(name: str) -> None:
    meta = registry.get("method", name).meta
    assert meta["beta"] == WEIGHTS[name]
    assert meta["gamma"] == 1.0
    assert meta["title"]
    assert meta["paper"]


# --- degenerate batches ------------------------------------------------------------


def zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def same(x: Tensor) -> Tensor:
    return x[:1].expand_as(x)


def twins(x: Tensor) -> Tensor:
    return torch.cat([x[:1], x[:-1]])


def nearly_same(x: Tensor) -> Tensor:
    return x[:1] + 1e-7 * x


def dead_channels(x: Tensor) -> Tensor:
    return torch.cat([x[:, :2], torch.zeros_like(x[:, 2:])], 1)


def dead_image(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:1]), x[1:]])


def tiny(x: Tensor) -> Tensor:
    return x * 1e-20


def huge(x: Tensor) -> Tensor:
    return x * 1e4


CHANGES = [zero, same, twins, nearly_same, dead_channels, dead_image, tiny, huge]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", WEIGHTS)
def test_degenerate_features(name: str, change: Any) -> None:
    for in_student, in_teacher in [(True, False), (False, True), (True, True)]:
        s_shapes, t_shapes = supported(name)
        student, teacher = draw(s_shapes, 5, 1), draw(t_shapes, 5, 2)
        if in_student:
            student = transform(student, change)
        if in_teacher:
            teacher = transform(teacher, change)
        assert_finite(build(name, s_shapes, t_shapes), student, teacher.detach())


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("size", [1, 2])
def test_small_batches(name: str, size: int) -> None:
    s_shapes, t_shapes = supported(name)
    method = build(name, s_shapes, t_shapes)
    assert_finite(method, draw(s_shapes, size, 1), draw(t_shapes, size, 2).detach())


@pytest.mark.parametrize("name", WEIGHTS)
def test_one_class_changes_nothing(name: str) -> None:
    s_shapes, t_shapes = supported(name)
    student, teacher = draw(s_shapes, 4, 1), draw(t_shapes, 4, 2).detach()
    method = build(name, s_shapes, t_shapes)
    assert method(student, teacher, batch(4, one_class=True)).isfinite()
    assert method(student, teacher, batch(4, one_class=True)).equal(
        method(student, teacher, batch(4))
    )


@pytest.mark.parametrize("name", sorted(set(WEIGHTS) - {"cc", "fitnet", "vid", "ft", "ab"}))
def test_zero_where_the_networks_agree(name: str) -> None:
    student, teacher = draw(STUDENT, 5), draw(STUDENT, 5, grad=False)
    for loss in losses(build(name, STUDENT, STUDENT), student, teacher):
        assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", WEIGHTS)
def test_teacher_receives_no_gradient(name: str) -> None:
    s_shapes, t_shapes = supported(name)
    student, teacher = draw(s_shapes, 4, 1), draw(t_shapes, 4, 2)
    for loss in losses(build(name, s_shapes, t_shapes), student, teacher):
        if loss.requires_grad:
            loss.backward()
    assert all(leaf.grad is None for leaf in leaves(teacher))


@pytest.mark.parametrize("name", WEIGHTS)
def test_memory_format_changes_nothing(name: str) -> None:
    s_shapes, t_shapes = supported(name)
    student, teacher = draw(s_shapes, 4, 1, False), draw(t_shapes, 4, 2, False)
    method = build(name, s_shapes, t_shapes).eval()

    def channels_last(features: Features) -> Features:
        def change(x: Tensor) -> Tensor:
            return x.contiguous(memory_format=torch.channels_last)

        stages, preact = (tuple(map(change, maps)) for maps in features[1:3])
        return features._replace(stem=change(features.stem), stages=stages, stages_preact=preact)

    plain = losses(method, student, teacher)
    other = losses(method, channels_last(student), channels_last(teacher))
    torch.testing.assert_close(plain, other, rtol=1e-4, atol=1e-6)


# --- half precision ----------------------------------------------------------------


@pytest.mark.parametrize("name", WEIGHTS)
def test_bf16_autocast(name: str) -> None:
    """Losses are fp32 and near those of fp32, with features as autocast networks give them."""
    s_shapes, t_shapes = supported(name)
    student, teacher = draw(s_shapes, 8, 1, False), draw(t_shapes, 8, 2, False)
    method = build(name, s_shapes, t_shapes)
    expected = losses(method, student, teacher)

    def half(features: Features) -> Features:
        stages, preact = (tuple(x.bfloat16() for x in maps) for maps in features[1:3])
        stem, pooled, logits = (features[i].bfloat16() for i in (0, 3, 4))
        return Features(stem, stages, preact, pooled, logits)

    with torch.autocast("cpu", torch.bfloat16):
        found = losses(method, half(student), half(teacher))
    for loss, reference in zip(found, expected, strict=True):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(reference.item(), rel=0.02)


# --- first stages ------------------------------------------------------------------


def touched(method: nn.Module) -> set[str]:
    """Names of the method's parts that have received a gradient."""
    return {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None}


def test_first_stages() -> None:
    trains = {}
    for name in WEIGHTS:
        stage = build(name, *supported(name)).first_stage
        if stage is not None:
            assert (stage.epochs, stage.learning_rate) == (30, None)
            trains[name] = stage.trains
    assert trains == {
        "ab": ("student_body", "method"), "ft": ("method",), "fsp": ("student_body",)
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ab", "fsp"])
def test_nothing_is_left_after_the_first_stage(name: str) -> None:
    s_shapes, t_shapes = supported(name)
    student, teacher = draw(s_shapes, 4, 1), draw(t_shapes, 4, 2)
    term = build(name, s_shapes, t_shapes)(student, teacher, batch(4))
    assert term.item() == 0
    assert not term.requires_grad


def test_ab_connects_only_where_shapes_differ() -> None:
    method = build("ab")
    connectors = list(method.connectors)
    assert not list(connectors[0].parameters())
    student, teacher = draw(STUDENT, 4, 1), draw(TEACHER, 4, 2)
    method.first_stage_loss(student, teacher, batch(4)).backward()
    assert touched(method) == {"connectors"}
    assert all(x.grad is not None for x in student.stages_preact)
    assert student.logits.grad is None


def test_ft_paraphraser_is_frozen_in_the_second_stage() -> None:
    method = build("ft")
    student, teacher = draw(STUDENT, 4, 1), draw(TEACHER, 4, 2)
    method.first_stage_loss(student, teacher, batch(4)).backward()
    assert touched(method) == {"paraphraser"}
    assert all(p.grad is not None for p in method.paraphraser.parameters())
    assert all(x.grad is None for x in leaves(student))

    method.zero_grad()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    method(student, teacher, batch(4)).backward()
    optimiser.step()
    assert touched(method) == {"translator"}
    for name, p in method.named_parameters():
        assert p.equal(before[name]) == name.startswith("paraphraser")


# --- matching maps -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((3, 8, 8), (5, 4, 4)),
        ((3, 4, 4), (5, 8, 8)),
        ((3, 7, 6), (5, 5, 5)),
        ((3, 4, 4), (5, 4, 4)),
    ],
)
@pytest.mark.parametrize("relu", [True, False])
def test_regressor_shapes(
    student: tuple[int, int, int], teacher: tuple[int, int, int], relu: bool
) -> None:
    out = regressor(student, teacher, relu=relu)(torch.randn(2, *student))
    assert out.shape == (2, *teacher)
    assert (out.min() >= 0) == relu


@pytest.mark.parametrize("name", ["fitnet", "ab"])
def test_no_regressor_to_a_much_larger_map(name: str) -> None:
    teacher = TEACHER._replace(stages=((4, 16, 16), (10, 13, 13), (12, 2, 2)))
    setup = Setup(STUDENT, teacher, CLASSES, torch.arange(40) % CLASSES)
    assert "4x4" in registry.get("method", name).load().unsupported(setup)
    with pytest.raises(UserError, match=f"{name}: .*13x13"):
        build(name, STUDENT, teacher)


def test_fitnet_needs_a_second_stage() -> None:
    with pytest.raises(UserError, match="fewer stages"):
        build("fitnet", STUDENT._replace(stages=STUDENT.stages[:1]), TEACHER)


def test_pooling() -> None:
    a, b = torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 6)
    pooled_a, pooled_b = pool_to_smaller(a, b)
    torch.testing.assert_close(pooled_a, (a[:, :, ::2] + a[:, :, 1::2]) / 2)
    torch.testing.assert_close(pooled_b, nn.AdaptiveAvgPool2d((4, 4))(b))


def test_bad_options() -> None:
    with pytest.raises(UserError, match="initial_variance"):
        build("vid", initial_variance=0.0)
    with pytest.raises(UserError, match="factor_ratio"):
        build("ft", factor_ratio=0.01)


# --- RKD's own arithmetic ----------------------------------------------------------


def test_rkd_angles_and_distances() -> None:
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    distance = relative_distances(x)
    norm = (x[:, None] - x[None]).norm(dim=2)
    torch.testing.assert_close(distance, norm / norm[norm > 0].mean())
    unit = torch.nn.functional.normalize(x[None] - x[:, None], dim=2)
    torch.testing.assert_close(angle_cosines(distance), unit @ unit.mT, rtol=1e-4, atol=1e-5)


def test_rkd_gradient_is_exact() -> None:
    generator = torch.Generator().manual_seed(3)
    x, t = torch.randn(5, 4, generator=generator), torch.randn(5, 7, generator=generator)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(relational_loss(x, t), x)
    step = 1e-2
    for i, j in [(0, 0), (2, 3), (4, 1)]:
        shift = torch.zeros_like(x)
        shift[i, j] = step
        up, down = (relational_loss(x.detach() + sign * shift, t) for sign in (1, -1))
        slope = ((up - down) / (2 * step)).item()
        assert gradient[i, j].item() == pytest.approx(slope, rel=0.05, abs=0.02)


def test_rkd_gradient_stays_bounded_between_close_points() -> None:
    """Points that differ only by rounding errors pull no harder than others."""
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    t = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
    x[1] = x[0]
    x[1, 0] += 1e-20 if x[1, 0] == 0 else 1e-7 * x[1, 0]
    x.requires_grad_()
    relational_loss(x, t).backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 100
