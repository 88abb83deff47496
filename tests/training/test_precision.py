"""bf16 on a CPU without units for it: the same roundings as torch's own autocast."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wcordbench import models
from wcordbench.results.store import Store
from wcordbench.suite import Run
from wcordbench.training import precision
from wcordbench.training.cohort import Cohort
from wcordbench.training.evaluation import StoppedError
from wcordbench.training.learner import Learner
from wcordbench.training.precision import (
    RoundedConvolutions,
    autocast,
    multiplies_bf16,
    resolve,
)

CPU = torch.device("cpu")
#: half the distance of neighbouring bfloat16 numbers, relative
ULP = 2.0**-8


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.Conv2d(8, 16, 3, (2, 1), (1, 0)),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Conv2d(8, 4, 1),
        nn.Conv2d(4, 6, 3, 1, 2, dilation=2),
        nn.Conv2d(4, 6, 3, padding="same"),
    ],
    ids=str,
)
def test_convolutions_agree_with_autocasts_own(layer: nn.Conv2d) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, layer.in_channels, 8, 8, generator=generator).requires_grad_()
    found = []
    for ours in (False, True):
        for tensor in (x, *layer.parameters()):
            tensor.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            if ours:
                with RoundedConvolutions():
                    y = layer(x)
            else:
                y = layer(x)
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16())
        grads = [tensor.grad for tensor in (x, *layer.parameters())]
        assert y.dtype == torch.bfloat16
        assert all(g is not None and g.dtype == torch.float32 for g in grads)
        found.append([y, *grads])
    for native, rounded in zip(*found, strict=True):
        # torch's own sums some gradients in bfloat16, image after image
        atol = 2 * ULP * native.abs().max().item()
        torch.testing.assert_close(rounded, native, rtol=4 * ULP, atol=atol)


def test_convolutions_are_the_rounded_exact_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w, g = (
        torch.randn(s, generator=generator).bfloat16()
        for s in [(4, 8, 8, 8), (16, 8, 3, 3), (4, 16, 8, 8)]
    )
    exact = [t.double().requires_grad_() for t in (x, w)]
    want = F.conv2d(*exact, padding=1)
    want.backward(g.double())
    ours = [t.clone().requires_grad_() for t in (x, w)]
    with torch.autocast("cpu", torch.bfloat16), RoundedConvolutions():
        got = F.conv2d(*ours, padding=1)
    got.backward(g)
    for a, b in zip([got, *(t.grad for t in ours)], [want, *(t.grad for t in exact)], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1.01 * ULP, atol=1e-5)


def test_a_network_in_bf16_is_near_itself_in_torchs_own() -> None:
    torch.manual_seed(0)
    network = models.create("resnet8", 10, 8)
    x = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            native = network(x).logits
            with RoundedConvolutions():
                ours = network(x).logits
        exact = network(x).logits
    assert ours.dtype == native.dtype == torch.bfloat16
    scale = exact.abs().max()
    assert (ours - native).abs().max() / scale < 0.03
    assert (ours - exact).abs().max() / scale < 0.03
    assert not torch.equal(ours.float(), exact)


def test_fp32_is_left_alone_and_bf16_is_autocast() -> None:
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    with autocast("fp32", CPU):
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias))
    with autocast("bf16", CPU):
        assert layer(x).dtype == F.linear(x, torch.randn(2, 8)).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


def test_which_devices_multiply_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for features, want in [({}, False), ({"avx2": True}, False), ({"avx512_bf16": True}, True)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=features: found)
        assert multiplies_bf16(CPU) == want
    for capability, want in [((7, 5), False), ((8, 0), True), ((9, 0), True)]:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert multiplies_bf16(torch.device("cuda")) == want
    assert not multiplies_bf16(torch.device("meta"))


def automatic(run: Run) -> Run:
    config = copy.deepcopy(run.config)
    config["train"]["precision"] = "auto"
    return Run(config, run.teacher)


@pytest.mark.parametrize("found", ["fp32", "bf16"])
def test_auto_is_what_the_device_has_and_is_recorded(
    runs: dict[str, Run],
    store: Store,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    found: str,
) -> None:
    monkeypatch.setattr(precision, "multiplies_bf16", lambda _: found == "bf16")
    assert resolve("auto", CPU) == found
    assert [resolve(x, CPU) for x in ("fp32", "bf16")] == ["fp32", "bf16"]
    taught = []
    see = Cohort._see

    def watched(self: Cohort, *args: Any) -> Any:
        features = see(self, *args)
        taught.append(features.logits.dtype)
        return features

    monkeypatch.setattr(Cohort, "_see", watched)
    run = automatic(runs["KD"])
    train(run)
    record = store.folder(run).result()
    assert record["config"]["train"]["precision"] == "auto"
    assert record["environment"]["precision"] == found
    assert set(taught) == {torch.float32 if found == "fp32" else torch.bfloat16}


def test_a_resumed_run_keeps_the_precision_it_began_with(
    runs: dict[str, Run], store: Store, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, fresh = automatic(runs["KD"]), automatic(runs["CRD"])
    monkeypatch.setattr(precision, "multiplies_bf16", lambda _: True)
    left = 3

    def should_stop() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    with pytest.raises(StoppedError):
        Cohort([begun], store, Path(), CPU, should_stop=should_stop).train()
    monkeypatch.setattr(precision, "multiplies_bf16", lambda _: False)
    seen = []
    step = Learner.train_step

    def watched(self: Learner, images: Any, teacher: Any, batch: Any, second: Any) -> None:
        seen.append((self.precision, teacher.logits.dtype))
        step(self, images, teacher, batch, second)

    monkeypatch.setattr(Learner, "train_step", watched)
    train(begun, fresh)
    assert set(seen) == {("bf16", torch.bfloat16), ("fp32", torch.float32)}
    assert store.folder(begun).result()["environment"]["precision"] == "bf16"
    assert store.folder(fresh).result()["environment"]["precision"] == "fp32"
