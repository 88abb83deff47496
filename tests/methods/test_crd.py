"""CRD against two reference steps, a plain formulation, and its memory promises."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from wcordbench.methods import Batch, Features, FeatureShapes, Setup
from wcordbench.methods.contrast import Negatives
from wcordbench.methods.crd import CRD

GOLDEN = Path(__file__).parents[1] / "reference" / "golden"


def golden(step: int) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"crd_step{step}.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file}


def build(count: int = 300, student: int = 64, teacher: int = 96, **options: Any) -> CRD:
    def shapes(width: int) -> FeatureShapes:
        return FeatureShapes((1, 1, 1), ((1, 1, 1),), width, 10)

    torch.manual_seed(0)
    options = {"feature_dim": 32, "negatives": 48} | options
    setup = Setup(shapes(student), shapes(teacher), 10, torch.arange(count) % 10)
    return CRD(setup, **options)


def features(pooled: Tensor) -> Features:
    return Features(pooled, (), (), pooled, pooled)


def batch_of(size: int) -> Batch:
    indices = torch.arange(size) * 3
    return Batch(indices % 10, indices)


def negatives(contrast_index: Tensor, count: int) -> Negatives:
    """The reference's gathered index, without its positive column, as counts."""
    rows = len(contrast_index)
    index = contrast_index[:, 1:]
    counts = torch.zeros(rows, count).scatter_add_(1, index, torch.ones(index.shape))
    return Negatives(torch.arange(count), counts)


def set_linear(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def test_two_golden_steps() -> None:
    method = build()
    for step in (1, 2):
        data = golden(step)
        set_linear(method.embed_student.linear, data["w_s"], data["b_s"])
        set_linear(method.embed_teacher.linear, data["w_t"], data["b_t"])
        if step == 1:
            method.bank_student.copy_(data["bank_s"])
            method.bank_teacher.copy_(data["bank_t"])
        student = data["in_s"].requires_grad_()
        drawn = negatives(data["contrast_index"], 300)
        loss = method._loss(student, data["in_t"], data["index"], drawn)
        loss.backward()
        torch.testing.assert_close(loss.detach(), data["loss"], rtol=1e-5, atol=0)
        torch.testing.assert_close(student.grad, data["grad_s"], rtol=1e-3, atol=1e-6)
        constants = torch.stack([data["z_s"], data["z_t"]])
        torch.testing.assert_close(method.z, constants, rtol=1e-5, atol=0)
        torch.testing.assert_close(method.bank_student, data["bank_s_after"], rtol=0, atol=1e-6)
        torch.testing.assert_close(method.bank_teacher, data["bank_t_after"], rtol=0, atol=1e-6)


def gathered_loss(method: CRD, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
    """CRD written down plainly, with gathered bank rows; ``index``: positive first."""
    embed_s = F.normalize(method.embed_student.linear(student))
    embed_t = F.normalize(method.embed_teacher.linear(teacher))
    total = torch.zeros(())
    count, k = len(method.bank_student), index.shape[1] - 1
    sides = ((embed_s, method.bank_teacher), (embed_t, method.bank_student))
    for anchor, bank in sides:
        score = torch.einsum("bd,bkd->bk", anchor, bank.clone()[index]) / method.temperature
        p = score.exp() / (score.exp().mean() * count).detach()
        total = total - (p[:, 0] / (p[:, 0] + k / count)).log().sum()
        total = total - (k / count / (p[:, 1:] + k / count)).log().sum()
    return total / len(index)


@pytest.mark.parametrize("k", [48, 280])  # 270 images are of other classes
def test_production_path_agrees_with_the_gathered_one(k: int) -> None:
    method, plain = build(negatives=k), build(negatives=k)
    method.manual_seed(3)
    plain.manual_seed(3)
    batch = batch_of(8)
    columns, counts = plain.draw(batch.indices)
    rows = [columns.repeat_interleave(c.long()) for c in counts]
    index = torch.cat([batch.indices[:, None], torch.stack(rows)], dim=1)
    student, teacher = torch.randn(8, 64), torch.randn(8, 96)
    losses = []
    for m in (method, plain):
        s = student.clone().requires_grad_()
        if m is method:
            loss = m(features(s), features(teacher), batch)
        else:
            loss = gathered_loss(m, s, teacher, index)
        loss.backward()
        grads = [s.grad, *(p.grad for p in m.parameters())]
        losses.append([loss.detach(), *grads])
    for fast, slow in zip(*losses, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-5)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_no_gathered_tensor_forward_or_backward() -> None:
    size, count, k, dim = 16, 3000, 1500, 32
    method = build(count, negatives=k, feature_dim=dim)
    student = torch.randn(size, 64, requires_grad=True)
    with Largest() as largest:
        for _ in range(2):  # the first call computes the constants
            loss = method(features(student), features(torch.randn(size, 96)), batch_of(size))
            loss.backward()
    assert student.grad is not None
    assert 0 < largest.elements <= count * dim < size * k * dim


def test_banks_change_in_place_in_training_only() -> None:
    method = build()
    where = method.bank_student.data_ptr()
    before = method.bank_student.clone()
    student, teacher, batch = torch.randn(4, 64), torch.randn(4, 96), batch_of(4)
    method.eval()
    method(features(student), features(teacher), batch)
    assert torch.equal(method.bank_student, before)
    assert (method.z == -1).all()
    method.train()
    method(features(student), features(teacher), batch)
    after = method.bank_student
    assert after.data_ptr() == where and not after.requires_grad
    changed = (after != before).any(1).nonzero().squeeze(1)
    assert changed.tolist() == batch.indices.tolist()
    torch.testing.assert_close(after[changed].norm(dim=1), torch.ones(4))
    expected = F.normalize(0.5 * before[changed] + 0.5 * method.embed_student(student))
    torch.testing.assert_close(after[changed], expected.detach())


def test_resumes_exactly_from_its_state() -> None:
    method = build()
    method.manual_seed(5)
    torch.manual_seed(1)
    data = [(torch.randn(4, 64), torch.randn(4, 96)) for _ in range(3)]

    def step(m: CRD, number: int) -> Tensor:
        student, teacher = data[number]
        return m(features(student), features(teacher), batch_of(4))

    step(method, 0)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    resumed = build()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    # Saving again before the first draw must not lose the generator's state.
    resumed.load_state_dict(resumed.state_dict())
    for number in (1, 2):
        assert torch.equal(step(method, number), step(resumed, number))
    assert torch.equal(method.bank_teacher, resumed.bank_teacher)


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("kind", ["zero", "same", "huge"])
def test_degenerate_features_stay_finite(size: int, kind: str) -> None:
    method = build(temperature=0.01)  # exp(score) up to exp(100) overflows float32
    scale = {"zero": 0.0, "same": 1.0, "huge": 1e4}[kind]
    student = torch.ones(size, 64).mul(scale).requires_grad_()
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            teacher = features(torch.ones(size, 96).mul(scale).bfloat16())
            loss = method(features(student), teacher, batch_of(size))
        loss.backward()
        assert loss.dtype == torch.float32 and loss.isfinite()
    assert student.grad is not None and student.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def stepped(method: CRD, low: bool) -> tuple[Tensor, Tensor]:
    """A step's loss and the gradient at the student's features."""
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(32, 64, generator=generator).requires_grad_()
    teacher = torch.randn(32, 96, generator=generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = method(features(student), features(teacher), batch_of(32))
    loss.backward()
    assert loss.dtype == torch.float32 and student.grad is not None
    return loss.detach(), student.grad


def test_autocast_rounds_the_products_with_negatives_only() -> None:
    plain, low = (stepped(build(2000, negatives=1500), on) for on in (False, True))
    torch.testing.assert_close(low[0], plain[0], rtol=3e-3, atol=0)
    assert 1e-5 < (low[1] - plain[1]).norm() / plain[1].norm() < 1e-2


@pytest.mark.parametrize("change", ["step", "write", "load"])
def test_the_banks_rounded_copy_follows_the_bank(change: str) -> None:
    method = build()
    method.bank_in("bank_teacher", torch.bfloat16)
    if change == "step":
        stepped(method, low=True)
        before = method.bank_in("bank_teacher", torch.bfloat16)
        stepped(method, low=True)
        assert method.bank_in("bank_teacher", torch.bfloat16) is before  # not made anew
    elif change == "write":
        with torch.no_grad():
            method.bank_teacher[7] = 0.5
    else:
        other = build()
        stepped(other, low=False)
        method.load_state_dict(other.state_dict())
    rounded = method.bank_in("bank_teacher", torch.bfloat16)
    assert torch.equal(rounded, method.bank_teacher.bfloat16())
    assert method.bank_in("bank_teacher", torch.float32) is method.bank_teacher


def test_constants_are_known_without_asking_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = build(), build()
    student, teacher = torch.randn(2, 4, 32), torch.randn(2, 4, 32)
    indices = batch_of(4).indices
    drawn = first.draw(indices)
    known = first._constants(student[0], teacher[0], indices, drawn).clone()
    second.load_state_dict(first.state_dict())

    def refuse(*args: Any) -> None:
        raise AssertionError("a tensor was asked for its value")

    for name in ("__bool__", "item", "cpu", "tolist", "__float__"):
        monkeypatch.setattr(Tensor, name, refuse)
    found = [m._constants(student[1], teacher[1], indices, drawn) for m in (first, second)]
    fresh = build()._constants(student[1], teacher[1], indices, drawn)
    monkeypatch.undo()
    assert all(torch.equal(z, known) for z in found)
    assert not torch.equal(fresh, known)
