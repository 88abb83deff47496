"""No baseline builds a tensor that its mathematics does not need, forwards or backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wcordbench.methods.ab import boundary_loss
from wcordbench.methods.at import attention_loss
from wcordbench.methods.cc import correlation_loss
from wcordbench.methods.fitnet import hint_loss
from wcordbench.methods.fsp import flow_loss
from wcordbench.methods.ft import factor_loss
from wcordbench.methods.nst import selectivity_loss
from wcordbench.methods.pkt import probabilistic_loss
from wcordbench.methods.rkd import relational_loss
from wcordbench.methods.sp import similarity_loss
from wcordbench.methods.vid import gaussian_nll


class LargestTensor(TorchDispatchMode):
    """Remembers the numbers in the largest new storage that any operation returned."""

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.numel = 0
        self.known = {x.untyped_storage().data_ptr() for x in inputs}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                # The storage, not the shape: a view or an expanded tensor costs nothing.
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.numel = max(self.numel, storage.nbytes() // tensor.element_size())
        return out


def largest(loss: Callable[[Tensor, Tensor], Tensor], s: Tensor, t: Tensor) -> int:
    """Numbers in the largest tensor of one forward and backward pass."""
    s.requires_grad_()
    with LargestTensor(s, t) as found:
        loss(s, t).backward()
    return found.numel


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def vid(s: Tensor, t: Tensor) -> Tensor:
    return gaussian_nll(s, t, torch.ones(s.shape[1]))


def fsp(s: Tensor, t: Tensor) -> Tensor:
    return flow_loss([s, s[:, :, ::2, ::2]], [t, t[:, :, ::2, ::2]])


def test_the_instrument_sees_large_tensors() -> None:
    def wasteful(s: Tensor, t: Tensor) -> Tensor:
        return (s[:, None] - t[None]).square().sum()

    assert largest(wasteful, maps(5, 7), maps(5, 7)) == 5 * 5 * 7


@pytest.mark.parametrize(
    "loss",
    [attention_loss, hint_loss, boundary_loss, vid, factor_loss, similarity_loss, fsp],
)
def test_maps_only(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Elementwise losses and products need nothing larger than a map."""
    s, t = maps(4, 24, 8, 8), maps(4, 24, 8, 8) + 1
    assert largest(loss, s, t) <= s.numel()


@pytest.mark.parametrize("loss", [attention_loss, factor_loss])
def test_attention_squares_no_map(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Forwards, only the maps reduced over channels are new."""
    s, t = maps(4, 24, 8, 8), maps(4, 36, 8, 8)
    with LargestTensor(s, t) as found:
        loss(s, t)
    assert found.numel == 4 * 8 * 8


def test_rkd_has_triples_but_not_of_vectors() -> None:
    size, channels = 12, 512
    s, t = maps(size, channels), maps(size, 2 * channels)
    assert largest(relational_loss, s, t) <= max(size**3, t.numel())  # not size² · channels

    def distances(s: Tensor, t: Tensor) -> Tensor:
        return relational_loss(s, t, angle_weight=0.0)

    size, channels = 40, 8
    s, t = maps(size, channels), maps(size, channels)
    assert largest(distances, s, t) <= size**2


@pytest.mark.parametrize("loss", [probabilistic_loss, correlation_loss])
def test_vectors_only(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    size, channels = 24, 64
    s, t = maps(size, channels), maps(size, channels)
    assert largest(loss, s, t) <= max(size**2, s.numel())


@pytest.mark.parametrize(
    ("c_s", "c_t", "height"),
    [(96, 128, 2), (128, 512, 2), (512, 96, 4), (16, 16, 16), (16, 32, 16), (64, 96, 8)],
)
def test_nst_multiplies_over_the_smaller_side(c_s: int, c_t: int, height: int) -> None:
    """H·W x H·W or C x C kernels of each image, never channels x channels x positions."""
    size, positions = 3, height * height
    s, t = maps(size, c_s, height, height), maps(size, c_t, height, height)
    needed = max(c_s, c_t) * positions
    kernel = min(positions**2, max(c_s, c_t) ** 2)
    assert largest(selectivity_loss, s, t) <= size * max(needed, kernel)


@pytest.mark.parametrize(("c_s", "c_t"), [(40, 56), (3, 5)])
def test_nst_both_ways_agree(c_s: int, c_t: int) -> None:
    """The matrices of positions and of channels give the definition's value."""
    s, t = maps(2, c_s, 3, 3), maps(2, c_t, 3, 3)
    a, b = (torch.nn.functional.normalize(x.flatten(2), dim=2).double() for x in (s, t))

    def mean(x: Tensor, y: Tensor) -> Tensor:
        return (x[:, :, None] * y[:, None]).sum(3).square().mean()

    expected = (mean(a, a) + mean(b, b) - 2 * mean(a, b)).item()
    assert selectivity_loss(s, t).item() == pytest.approx(expected, rel=1e-4)
