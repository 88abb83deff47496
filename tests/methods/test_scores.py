"""The sum over bank rows: values and gradients against the plain formula."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wcordbench.methods import scores
from wcordbench.methods.scores import LogSumExp, NoiseTerm, PosteriorTerm, multiply

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def case(
    batch: int, rows: int, dim: int = 16, offset: float = 9.0, temperature: float = 0.07
) -> Case:
    """Anchors, bank, columns, counts of 0 and 1, offset."""
    generator = torch.Generator().manual_seed(batch + rows)
    anchor = F.normalize(torch.randn(batch, dim, generator=generator)) / temperature
    bank = F.normalize(torch.randn(2 * rows, dim, generator=generator))
    columns = torch.randperm(2 * rows, generator=generator)[:rows]
    counts = (torch.rand(batch, rows, generator=generator) < 0.9).float()
    return anchor, bank, columns, counts, torch.tensor(offset)


def equal_scores(inputs: Case) -> Case:
    """Every rounding error is the same, so that none average out."""
    anchor, bank, columns, counts, offset = inputs
    return torch.zeros_like(anchor), bank, columns, torch.ones_like(counts), offset


def hard(inputs: Case) -> Case:
    """Negatives that look like positives: σ(odds) is 1 in float32."""
    anchor, bank, columns, counts, _ = inputs
    return anchor, bank, columns, counts, torch.tensor(-30.0)


def one_hard(inputs: Case) -> Case:
    anchor, bank, columns, counts, offset = inputs
    bank = bank.index_copy(0, columns[:1], F.normalize(anchor[:1]))
    return anchor, bank, columns, torch.ones_like(counts), offset - 6


def repeated(inputs: Case) -> Case:
    anchor, bank, columns, counts, offset = inputs
    return anchor, bank, columns, counts * torch.arange(len(columns)) % 4, offset


def none(inputs: Case) -> Case:
    return inputs


def plain(anchor: Tensor, bank: Tensor, columns: Tensor, counts: Tensor, offset: Tensor) -> Tensor:
    """The definition, in float64."""
    odds = anchor @ bank[columns].double().T - offset.double()
    return (counts * F.softplus(odds)).sum()


@pytest.mark.parametrize("change", [none, equal_scores, hard, one_hard, repeated])
@pytest.mark.parametrize("shape", [(1, 1), (3, 33), (8, 48), (2, 5000), (64, 4097), (1, 16384)])
def test_value_and_gradient(change: Callable[[Case], Case], shape: tuple[int, int]) -> None:
    inputs = change(case(*shape))
    exact = inputs[0].double().requires_grad_()
    anchor = inputs[0].clone().requires_grad_()
    expected = plain(exact, *inputs[1:])
    expected.backward()
    found = NoiseTerm.apply(anchor, *inputs[1:], bool(inputs[3].max() <= 1))
    found.backward()
    assert exact.grad is not None and anchor.grad is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-30)
    assert (anchor.grad - exact.grad).norm() <= 1e-5 * exact.grad.norm()


def test_softplus_is_for_what_the_product_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    plain_softplus = F.softplus

    def watched(x: Tensor) -> Tensor:
        asked.append(x)
        return plain_softplus(x)

    monkeypatch.setattr(F, "softplus", watched)
    NoiseTerm.apply(*case(8, 5000, dim=128), True)
    assert not asked
    NoiseTerm.apply(*hard(case(8, 5000)), True)
    assert sum(map(len, asked)) == 5000


def test_value_is_the_same_whether_or_not_a_gradient_is_asked_for() -> None:
    inputs = case(8, 5000)
    with_gradient = NoiseTerm.apply(inputs[0].clone().requires_grad_(), *inputs[1:], True)
    assert torch.equal(with_gradient.detach(), NoiseTerm.apply(*inputs, True))


@pytest.mark.parametrize("emulated", [False, True])
def test_products_in_bfloat16(monkeypatch: pytest.MonkeyPatch, emulated: bool) -> None:
    if emulated:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    anchor, bank, columns, counts, offset = case(32, 9000, dim=64)
    exact, low = (anchor.clone().requires_grad_() for _ in range(2))
    expected = NoiseTerm.apply(exact, bank, columns, counts, offset, True)
    found = NoiseTerm.apply(low, bank.bfloat16(), columns, counts, offset, True)
    expected.backward()
    found.backward()
    assert found.dtype == torch.float32 and low.grad is not None and exact.grad is not None
    assert found.item() != expected.item()
    assert found.item() == pytest.approx(expected.item(), rel=2e-3)
    assert (low.grad - exact.grad).norm() < 0.01 * exact.grad.norm()


def test_emulated_products_keep_the_roundings(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = torch.randn(5, 8).bfloat16(), torch.randn(8, 3).bfloat16()
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    expected = (left.double() @ right.double()).bfloat16()
    out = torch.empty_like(expected)
    assert torch.equal(multiply(left, right), expected)
    assert torch.equal(multiply(left, right, out=out), expected) and torch.equal(out, expected)


def test_a_product_of_little_keeps_its_digits() -> None:
    q = torch.full((1000, 3), 1e-12)
    found = scores._log_of_product(q)
    assert found is not None and found.item() == pytest.approx(-3e-9, rel=1e-6)


def weighted(sum_of: Callable[[Tensor], Tensor], inputs: Case) -> Tensor:
    """A sum over the rows' scores in float64, and the anchors' gradient."""
    anchor, bank, columns, _, offset = inputs
    exact = anchor.double().requires_grad_()
    odds = exact @ bank[columns].double().T - offset.double()
    value = sum_of(odds)
    value.sum().backward()
    assert exact.grad is not None
    return torch.cat([value.detach().reshape(-1), exact.grad.reshape(-1)])


@pytest.mark.parametrize("change", [none, equal_scores, hard, one_hard, repeated])
@pytest.mark.parametrize("shape", [(3, 33), (2, 5000), (64, 4097)])
def test_other_sums(change: Callable[[Case], Case], shape: tuple[int, int]) -> None:
    inputs = change(case(*shape))
    counts = inputs[3]
    counts[:, 0] = 1
    expected = {
        "posterior": weighted(lambda odds: (counts * odds.sigmoid()).sum(), inputs),
        "lse": weighted(
            lambda odds: (odds + inputs[4] + counts.double().log()).logsumexp(1), inputs
        ),
    }
    for name, wanted in expected.items():
        anchor = inputs[0].clone().requires_grad_()
        if name == "posterior":
            value = PosteriorTerm.apply(anchor, *inputs[1:])
        else:
            value = LogSumExp.apply(anchor, *inputs[1:4])
        value.sum().backward()
        assert anchor.grad is not None
        split = value.numel()
        found = [value.detach().reshape(-1).double(), anchor.grad.reshape(-1).double()]
        torch.testing.assert_close(found[0], wanted[:split], rtol=1e-5, atol=1e-6)
        assert (found[1] - wanted[split:]).norm() <= 1e-5 * wanted[split:].norm() + 1e-6


def test_log_sum_exp_of_scores_beyond_float32() -> None:
    anchor, bank, columns, counts, _ = case(4, 9000, temperature=1e-3)
    counts[:, :5000] = 0  # whole blocks that nothing uses
    value = LogSumExp.apply(anchor, bank, columns, counts)
    scores = (anchor.double() @ bank[columns].double().T).masked_fill(counts == 0, -torch.inf)
    torch.testing.assert_close(value.double(), scores.logsumexp(1), rtol=1e-5, atol=0)
