"""WCoRD: gradients of both critics, who is trained by what, Sinkhorn, Lipschitz bound."""

import io
import itertools
from typing import Any

import ot
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wcordbench import registry
from wcordbench.errors import UserError
from wcordbench.methods import Batch, Features, FeatureShapes, Setup
from wcordbench.methods.contrast import leading_singular_vectors
from wcordbench.methods.crd import CRD
from wcordbench.methods.transport import ipot_plan, sinkhorn_plan
from wcordbench.methods.wcord import WCoRD
from wcordbench.suite.base import resolve_options

CRITICS = ["nce", "dual", "infonce", "posterior"]


def setup(count: int = 60, student: int = 12, teacher: int = 20) -> Setup:
    def shapes(width: int) -> FeatureShapes:
        return FeatureShapes((1, 1, 1), ((1, 1, 1),), width, 10)

    return Setup(shapes(student), shapes(teacher), 10, torch.arange(count) % 10)


def build(data: Setup | None = None, **options: Any) -> WCoRD:
    torch.manual_seed(0)
    options = {"feature_dim": 8, "negatives": 16} | options
    method = WCoRD(data or setup(), **options)
    method.manual_seed(1)
    return method


def features(pooled: Tensor) -> Features:
    return Features(pooled, (), (), pooled, pooled)


def batch_of(size: int) -> Batch:
    indices = torch.arange(size) * 3
    return Batch(indices % 10, indices)


# --- Sinkhorn -------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [50, 200])
@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (16, 16), (5, 9)])
def test_plan_agrees_with_pot(shape: tuple[int, int], epsilon: float, iterations: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(shape[0], 4, generator=generator, dtype=torch.float64))
    y = F.normalize(torch.randn(shape[1], 4, generator=generator, dtype=torch.float64))
    cost = 1 - x @ y.T
    a, b = (torch.full((n,), 1 / n, dtype=torch.float64) for n in shape)
    # Not to convergence: the same number of iterations from the same start.
    options = {"numItermax": iterations, "stopThr": 0.0, "warn": False}
    expected = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", **options)
    double = sinkhorn_plan(cost, epsilon, iterations)
    torch.testing.assert_close(double, expected, rtol=0, atol=1e-9)
    single = sinkhorn_plan(cost.float(), epsilon, iterations)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.034, 0.05, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (5, 9), (64, 64)])
def test_plain_scalings_give_the_plan_of_their_logarithms(
    shape: tuple[int, int], epsilon: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(shape[0], 3, generator=generator))
    y = F.normalize(torch.randn(shape[1], 3, generator=generator))
    for cost in (1 - x @ y.T, 1 - x @ x[:1].T, torch.full(shape, 2.0), 2 - 2 * torch.eye(*shape)):
        for iterations in (1, 10, 50):
            plain = sinkhorn_plan(cost, epsilon, iterations, largest=2.0)
            exact = sinkhorn_plan(cost.double(), epsilon, iterations)
            torch.testing.assert_close(plain.double(), exact, rtol=1e-4, atol=1e-7)


def test_scalings_are_not_used_where_they_would_overflow() -> None:
    cost = 2 - 2 * torch.eye(8)
    plan = sinkhorn_plan(cost, 0.01, 50, largest=2.0)
    assert torch.equal(plan, sinkhorn_plan(cost, 0.01, 50))


def test_plan_converges_to_both_marginals() -> None:
    cost = torch.rand(20, 20, generator=torch.Generator().manual_seed(0))
    plan = sinkhorn_plan(cost, 0.05, 500)
    for axis in (0, 1):
        torch.testing.assert_close(plan.sum(axis), torch.full((20,), 0.05), rtol=1e-4, atol=0)


def test_plan_of_half_precision_costs_is_float32() -> None:
    cost = torch.rand(6, 6).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        plan = sinkhorn_plan(cost, 0.05, 50)
    assert plan.dtype == torch.float32
    assert torch.equal(plan, sinkhorn_plan(cost.float(), 0.05, 50))


@pytest.mark.parametrize("epsilon", [1e-4, 1e-2, 1e2])
@pytest.mark.parametrize("size", [1, 2, 32])
def test_plan_is_finite_for_any_epsilon(size: int, epsilon: float) -> None:
    for cost in (torch.rand(size, size) * 2, torch.zeros(size, size), 1 - torch.eye(size)):
        plan = sinkhorn_plan(cost, epsilon, 50)
        assert plan.isfinite().all() and not plan.requires_grad
        torch.testing.assert_close(plan.sum(1), torch.full((size,), 1 / size), rtol=1e-3, atol=0)


# --- IPOT -----------------------------------------------------------------------------


def unit_costs(n: int, m: int, dim: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(n + m)
    x, y = (F.normalize(torch.randn(k, dim, generator=generator).double()) for k in (n, m))
    return 1 - x @ y.T


@pytest.mark.parametrize("beta", [0.05, 0.5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (16, 16), (5, 9)])
def test_first_proximal_step_is_pots_sinkhorn(shape: tuple[int, int], beta: float) -> None:
    cost = unit_costs(*shape)
    a, b = (torch.full((n,), 1 / n, dtype=torch.float64) for n in shape)
    # Rows first: Sinkhorn's of the transposed problem.
    expected = ot.sinkhorn(b, a, cost.T, beta, numItermax=1, stopThr=0.0, warn=False).T
    torch.testing.assert_close(ipot_plan(cost, beta, 1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize("shape", [(16, 16), (5, 9), (64, 64)])
def test_proximal_steps_converge_to_pots_exact_transport(
    shape: tuple[int, int], beta: float
) -> None:
    cost = unit_costs(*shape)
    a, b = (torch.full((n,), 1 / n, dtype=torch.float64) for n in shape)
    exact = ot.emd2(a, b, cost).item()
    for precise, tolerance in ((cost, 1e-3), (cost.float(), 2e-3)):
        plan = ipot_plan(precise, beta, 3000)
        for axis, mass in ((0, b), (1, a)):
            torch.testing.assert_close(plan.sum(axis).double(), mass, rtol=1e-2, atol=0)
        assert (plan.double() * cost).sum().item() == pytest.approx(exact, rel=tolerance)
    entropic = (sinkhorn_plan(cost, 0.1, 1000) * cost).sum().item()
    assert entropic > 1.02 * exact  # what the entropy costs


@pytest.mark.parametrize("beta", [0.05, 0.5])
def test_proximal_plans_are_finite(beta: float) -> None:
    for cost in (torch.zeros(8, 8), torch.full((8, 8), 2.01), 2 - 2 * torch.eye(8)):
        for iterations in (1, 50, 2000):
            plan = ipot_plan(cost.bfloat16(), beta, iterations)
            assert plan.dtype == torch.float32 and plan.isfinite().all() and not plan.requires_grad
            torch.testing.assert_close(plan.sum(0), torch.full((8,), 1 / 8), rtol=1e-3, atol=0)


# --- gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("critic", CRITICS)
def test_gradients_of_the_global_term(critic: str) -> None:
    method = build(critic=critic, lambda2=0.0).double()
    method.z.fill_(100.0)
    method.eval()  # finite differences need constant banks
    batch = batch_of(4)
    drawn = method.draw(batch.indices)
    for p in method.parameters():
        p.requires_grad_(False)
    names = [name for name, _ in method.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in method.parameters()]
    student = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 20, dtype=torch.float64)

    class Term(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = method

        def forward(self, x: Tensor) -> Tensor:
            return self.inner._loss(x, teacher, batch.indices, drawn)

    term = Term()

    def loss(x: Tensor, *parameters: Tensor) -> Tensor:
        state = {f"inner.{n}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(term, state, (x,))

    assert torch.autograd.gradcheck(loss, (student, *values), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("local_on", ["embedding", "pooled"])
@pytest.mark.parametrize("transport", ["sinkhorn", "ipot"])
def test_gradient_of_the_local_term_is_that_of_a_constant_plan(
    local_on: str, transport: str
) -> None:
    options = {"lambda1": 0.0, "lambda2": 1.0, "local_on": local_on, "transport": transport}
    method = build(setup(teacher=12), **options).double()
    student = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(5, 12, dtype=torch.float64)

    def cost(x: Tensor) -> Tensor:
        if local_on == "pooled":
            return 1 - F.normalize(teacher) @ F.normalize(x).T
        return 1 - method.embed_teacher(teacher) @ method.embed_student(x).T

    with torch.no_grad():
        if transport == "ipot":
            plan = ipot_plan(cost(student), method.ipot_beta, method.ipot_iterations)
        else:
            iterations = method.sinkhorn_iterations
            plan = sinkhorn_plan(cost(student), method.sinkhorn_epsilon, iterations)

    def constant_plan(x: Tensor) -> Tensor:
        return (plan * cost(x)).sum()

    loss = method._loss(student, teacher, batch_of(5).indices, None)
    (gradient,) = torch.autograd.grad(loss, student)
    (expected,) = torch.autograd.grad(constant_plan(student), student)
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.gradcheck(constant_plan, (student,), atol=1e-5)


def test_the_critic_is_trained_by_the_local_term_where_asked() -> None:
    method = build(lambda1=0.0, lambda2=1.0, local_trains_critic=True)
    student = torch.randn(4, 12, requires_grad=True)
    teacher = torch.randn(4, 20, requires_grad=True)
    loss = method(features(student), features(teacher.detach()), batch_of(4))
    loss.backward()
    assert student.grad is not None and student.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())
    without = build(lambda1=0.0, lambda2=1.0)
    frozen = without(features(student), features(teacher), batch_of(4))
    torch.testing.assert_close(loss, frozen)  # the same value, another gradient


def test_pooled_features_are_of_one_width() -> None:
    with pytest.raises(UserError, match="12 values and the teacher's 20"):
        build(local_on="pooled")
    with pytest.raises(UserError, match="no critic"):
        build(setup(teacher=12), local_on="pooled", local_trains_critic=True)


@pytest.mark.parametrize("local_on", ["embedding", "pooled"])
def test_local_term_trains_the_student_network_only(local_on: str) -> None:
    method = build(setup(teacher=20, student=20), lambda1=0.0, lambda2=1.0, local_on=local_on)
    student = torch.randn(4, 20, requires_grad=True)
    teacher = torch.randn(4, 20, requires_grad=True)
    method(features(student), features(teacher), batch_of(4)).backward()
    assert student.grad is not None and student.grad.any()
    assert teacher.grad is None
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("critic", CRITICS)
def test_global_term_trains_student_and_critic(critic: str) -> None:
    method = build(critic=critic, lambda2=0.0)
    student = torch.randn(4, 12, requires_grad=True)
    method(features(student), features(torch.randn(4, 20)), batch_of(4)).backward()
    assert student.grad is not None and student.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in method.parameters())


# --- the global term's value ----------------------------------------------------------


def test_nce_is_crd_with_the_normalised_critic() -> None:
    method = build(lambda1=1.0, lambda2=0.0)
    crd = CRD(setup(), feature_dim=8, negatives=16)
    with torch.no_grad():
        for name in ("embed_student", "embed_teacher"):
            ours, theirs = getattr(method, name).linear, getattr(crd, name).linear
            theirs.weight.copy_(ours.weight)
            theirs.bias.copy_(ours.bias)
        crd.bank_student.copy_(method.bank_student)
        crd.bank_teacher.copy_(method.bank_teacher)
    crd.manual_seed(1)
    student, teacher = torch.randn(4, 12), torch.randn(4, 20)
    ours = method(features(student), features(teacher), batch_of(4))
    theirs = crd(features(student), features(teacher), batch_of(4))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [16, 100])
def test_dual_is_the_difference_of_means(k: int) -> None:
    method = build(critic="dual", lambda1=1.0, lambda2=0.0, negatives=k).eval()
    batch = batch_of(4)
    drawn = method.draw(batch.indices)
    student, teacher = torch.randn(4, 12), torch.randn(4, 20)
    e_s, e_t = method.embed_student(student), method.embed_teacher(teacher)
    own_t, own_s = method.bank_teacher[batch.indices], method.bank_student[batch.indices]
    congruent = ((e_s * own_t).sum(1).mean() + (e_t * own_s).sum(1).mean()) / 2
    incongruent = []
    for row in range(4):
        images = drawn.columns.repeat_interleave(drawn.counts[row].long())
        incongruent += [(method.bank_teacher[images] @ e_s[row]).mean()]
        incongruent += [(method.bank_student[images] @ e_t[row]).mean()]
    expected = -(congruent - torch.stack(incongruent).mean()) / 0.07
    loss = method._loss(student, teacher, batch.indices, drawn)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def scores_of(method: WCoRD, student: Tensor, teacher: Tensor, indices: Tensor, row: int,
              drawn: Any) -> list[tuple[Tensor, Tensor]]:  # fmt: skip
    """Of both sides an anchor's congruent score and its incongruent ones, from gathered rows."""
    images = drawn.columns.repeat_interleave(drawn.counts[row].long())
    sides = ((student, method.bank_teacher), (teacher, method.bank_student))
    return [
        (bank[indices[row]] @ anchor[row] / 0.07, bank[images] @ anchor[row] / 0.07)
        for anchor, bank in sides
    ]


@pytest.mark.parametrize("k", [16, 100])
def test_infonce_is_the_score_minus_the_log_of_the_mean_exponential(k: int) -> None:
    method = build(critic="infonce", lambda1=1.0, lambda2=0.0, negatives=k).eval()
    batch = batch_of(4)
    drawn = method.draw(batch.indices)
    student, teacher = torch.randn(4, 12), torch.randn(4, 20)
    e_s, e_t = method.embed_student(student), method.embed_teacher(teacher)
    expected = torch.zeros(())
    for row in range(4):
        for congruent, others in scores_of(method, e_s, e_t, batch.indices, row, drawn):
            assert len(others) == k
            expected = expected - (congruent - others.exp().mean().log()) / 4
    loss = method._loss(student, teacher, batch.indices, drawn)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [16, 100])
def test_posterior_is_the_difference_of_the_bounded_critics_means(k: int) -> None:
    method = build(critic="posterior", lambda1=1.0, lambda2=0.0, negatives=k).eval()
    method.z.copy_(torch.tensor([300.0, 200.0]))
    batch = batch_of(4)
    drawn = method.draw(batch.indices)
    student, teacher = torch.randn(4, 12), torch.randn(4, 20)
    e_s, e_t = method.embed_student(student), method.embed_teacher(teacher)
    expected = torch.zeros(())
    for row in range(4):
        sides = scores_of(method, e_s, e_t, batch.indices, row, drawn)
        for z, (congruent, others) in zip(method.z, sides, strict=True):
            g = [s.exp() / z / (s.exp() / z + k / 60) for s in (congruent, others)]
            expected = expected - (g[0] - k * g[1].mean()) / 4
    loss = method._loss(student, teacher, batch.indices, drawn)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("critic", CRITICS)
def test_a_step_in_bf16_has_nearly_the_gradient_of_one_in_fp32(critic: str) -> None:
    found = []
    for low in (False, True):
        method = build(setup(count=3000), critic=critic, feature_dim=64, negatives=2000)
        generator = torch.Generator().manual_seed(0)
        student = torch.randn(32, 12, generator=generator).requires_grad_()
        teacher = torch.randn(32, 20, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            method(features(student), features(teacher), batch_of(32)).backward()
        assert student.grad is not None
        found.append(student.grad)
    assert (found[1] - found[0]).norm() < 0.02 * found[0].norm()


def test_scores_are_lipschitz_as_documented() -> None:
    """The map by 1, L2 normalisation by 1/r, the score by 1/τ in an embedding."""
    method = build().double()
    linear = method.embed_student.linear
    assert torch.linalg.matrix_norm(linear.weight.detach(), 2).item() <= 1 + 1e-9
    own = F.normalize(torch.randn(8, dtype=torch.float64), dim=0)
    for length in (0.1, 1.0, 10.0):
        pre = (length * F.normalize(torch.randn(8, dtype=torch.float64), dim=0)).requires_grad_()
        score = F.normalize(pre, dim=0) @ own / 0.07
        (slope,) = torch.autograd.grad(score, pre)
        assert slope.norm().item() <= 1 / (0.07 * length) + 1e-9
    close = torch.randn(2, 1000, 12, dtype=torch.float64)
    mapped = [linear(x) for x in close]
    assert ((mapped[0] - mapped[1]).norm(dim=1) <= (close[0] - close[1]).norm(dim=1) + 1e-9).all()


def test_the_local_terms_share_of_the_gradient_is_what_the_documents_say() -> None:
    """docs/wcord.md: 0.3 % at the default weights, for networks of 64 pooled features."""
    torch.manual_seed(0)
    method = WCoRD(setup(50_000, student=64, teacher=64))
    indices = torch.randperm(50_000)[:64]
    student = torch.randn(64, 64).relu_().requires_grad_()
    teacher = torch.randn(64, 64).relu_()
    embed_s, frozen_s = method.embed_student.with_frozen(student)
    embed_t = method.embed_teacher(teacher)
    global_term = method.lambda1 * method.gckt(embed_s, embed_t, indices, method.draw(indices))
    local_term = method.lambda2 * method.lckt(frozen_s, embed_t.detach())
    ours, theirs = (torch.autograd.grad(t, student)[0] for t in (local_term, global_term))
    assert (ours.norm() / theirs.norm()).item() == pytest.approx(0.003, abs=0.0005)


# --- training -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (200, 64), (1, 5)])
def test_leading_singular_vectors_of_clustered_values(shape: tuple[int, int]) -> None:
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(1, 0.995, min(shape)) * 3
    matrix = (left * values) @ right
    u, v = leading_singular_vectors(matrix)
    assert (u @ matrix @ v).item() == pytest.approx(3, rel=5e-4)


@pytest.mark.parametrize("critic", CRITICS)
def test_linear_maps_stay_lipschitz_while_training(critic: str) -> None:
    torch.manual_seed(0)
    method = build(setup(student=48, teacher=96), critic=critic, feature_dim=64)
    backbone = torch.nn.Linear(16, 48)
    optimiser = torch.optim.SGD(
        itertools.chain(backbone.parameters(), method.parameters()),
        lr=0.05, momentum=0.9, weight_decay=5e-4,
    )  # fmt: skip
    losses = []

    def norms() -> list[float]:
        linears = (method.embed_student.linear, method.embed_teacher.linear)
        return [torch.linalg.matrix_norm(x.weight.detach(), 2).item() for x in linears]

    images = torch.rand(60, 16)
    teacher = torch.relu(images @ torch.randn(16, 96))
    for step in range(60):
        assert max(norms()) <= 1 + 1e-3
        method.train()
        indices = torch.randperm(60)[:20]
        batch = Batch(indices % 10, indices)
        loss = method(features(torch.relu(backbone(images[indices]))),
                      features(teacher[indices]), batch)  # fmt: skip
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        method.train(step % 2 == 0)  # right after a step, the norm holds in both modes
    assert min(norms()) >= 1 - 1e-3
    assert sum(losses[-10:]) < sum(losses[:10])
    if critic == "dual":  # which has a stationary point with all embeddings in one place
        with torch.no_grad():
            assert method.embed_teacher(teacher).mean(0).norm() < 0.95


@pytest.mark.parametrize("critic", CRITICS)
def test_steps_are_deterministic_and_resume(critic: str) -> None:
    def run(method: WCoRD, steps: range) -> list[Tensor]:
        out = []
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            student = torch.randn(4, 12, generator=generator)
            teacher = torch.randn(4, 20, generator=generator)
            out.append(method(features(student), features(teacher), batch_of(4)).detach())
        return out

    first = build(critic=critic)
    expected = run(first, range(6))
    second = build(critic=critic)
    assert run(second, range(3)) == expected[:3]
    file = io.BytesIO()
    torch.save(second.state_dict(), file)
    file.seek(0)
    resumed = build(critic=critic)
    resumed.manual_seed(9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert run(resumed, range(3, 6)) == expected[3:]
    other = build(critic=critic)
    other.manual_seed(2)
    assert run(other, range(6)) != expected


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", ["zero", "same", "huge"])
def test_degenerate_features_stay_finite(critic: str, size: int, kind: str) -> None:
    method = build(critic=critic)
    scale = {"zero": 0.0, "same": 1.0, "huge": 1e4}[kind]
    student = torch.ones(size, 12).mul(scale).requires_grad_()
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            teacher = features(torch.ones(size, 20).mul(scale).bfloat16())
            loss = method(features(student), teacher, batch_of(size))
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
    assert student.grad is not None and student.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_more_negatives_than_other_images() -> None:
    method = build(setup(count=20), negatives=500)
    loss = method(features(torch.randn(2, 12)), features(torch.randn(2, 20)), batch_of(2))
    assert loss.isfinite()


# --- options --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"critic": "wgan"}, {"temperature": 0.0}, {"momentum": 1.0}, {"feature_dim": 0},
        {"sinkhorn_epsilon": 0.0}, {"sinkhorn_iterations": 0}, {"negatives": 0},
        {"local_on": "logits"}, {"transport": "emd"}, {"ipot_beta": 0.01}, {"ipot_iterations": 0},
    ],
    ids=lambda option: next(iter(option)),
)  # fmt: skip
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(option))):
        build(**option)


def test_registration() -> None:
    entry = registry.get("method", "wcord")
    assert entry.meta["beta"] == 1.0
    defaults = {name: option.default for name, option in entry.options.items()}
    assert defaults["lambda1"] == 0.8 and defaults["lambda2"] == 0.05
    assert defaults["critic"] == "nce" and defaults["negatives"] == 16384
    assert registry.get("method", "crd").meta["beta"] == 0.8


def test_options_that_came_later_are_no_part_of_an_older_runs_identity() -> None:
    entry = registry.get("method", "wcord")
    later = set(entry.meta["added"])
    plain = resolve_options(entry, {})
    assert set(entry.options) - set(plain) == later
    given: dict[str, Any] = {
        "local_on": "pooled", "local_trains_critic": True, "transport": "ipot", "ipot_beta": 0.1,
        "ipot_iterations": 20,
    }  # fmt: skip
    for name, value in given.items():
        assert resolve_options(entry, {name: value}) == {**plain, name: value}
        assert resolve_options(entry, {name: entry.options[name].default}) == plain
    assert set(given) == later
