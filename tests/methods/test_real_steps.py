"""Every method trains on real images, between networks of one style and of two."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wcordbench import models, registry
from wcordbench.data.batches import Normalise
from wcordbench.errors import UserError
from wcordbench.methods.base import Batch, SecondView
from wcordbench.suite.schema import MethodSpec
from wcordbench.training.objective import Objective, objective

PAIRS = {
    "same": ("resnet14", "resnet8"),
    "different": ("wrn_16_1", "mobilenetv2"),
    "shuffle": ("resnet8x4", "shufflenetv2"),
}
#: FSP needs stages of the same channels, WKD-F a regressor, which none is from 2x2 to 8x8
UNDEFINED = {("fsp", "different"), ("fsp", "shuffle"), ("wkd_f", "different")}
#: where the usual step is too long: a loss without cross entropy on a map of 2x2, a steep network
RATES = {"simkd": 0.0001, "shuffle": 0.0002}
#: four images each of sixteen classes of CIFAR-100's training set
IMAGES = Path(__file__).parent / "images" / "cifar100_64.npz"
MEAN, STD = [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    """Real images, normalised as the protocol does, and their labels."""
    with np.load(IMAGES) as file:
        pixels, labels = torch.from_numpy(file["pixels"]), torch.from_numpy(file["labels"])
    return Normalise(MEAN, STD, torch.device("cpu"))(pixels), labels


def descend(
    net: nn.Module,
    teacher: nn.Module,
    loss_of: Objective,
    x: Tensor,
    batch: Batch,
    first: bool,
    rate: float = 0.001,
) -> list[float]:
    """Five steps on one batch; the loss at each."""
    body = any("student_body" in m.first_stage.trains for m in loss_of.methods if m.first_stage)
    net.train(body or not first)
    loss_of.train()
    parameters = [*net.parameters(), *loss_of.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    with torch.no_grad():
        knowledge, mirrored = teacher(x), teacher(x.flip(3))
    losses = []
    for _ in range(5):
        features = net(x)
        if loss_of.second_view:
            batch = batch._replace(second=SecondView(net(x.flip(3)), mirrored))
        compute = loss_of.first_stage_loss if first else loss_of
        loss = compute(features, knowledge, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def prepare(loss_of: Objective, teacher: nn.Module, x: Tensor, labels: Tensor) -> None:
    """As if each image were 64."""
    if loss_of.prepares:
        with torch.no_grad():
            seen = teacher(x), labels
        loss_of.prepare([seen] * 64)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", sorted(registry.catalogue("method")))
def test_the_loss_falls_on_real_images(name: str, pair: str, images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    chosen = torch.arange(0, 64, 4)
    x, batch = pixels[chosen], Batch(labels[chosen], chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher, student = (models.create(net, 16) for net in PAIRS[pair])
        teacher.eval()
        try:
            # as if each image were 64: a memory bank of the usual kind, mostly of others
            loss_of = objective(
                name, student, teacher, x[:2], labels.repeat(64), batch_size=len(chosen)
            )
        except UserError:
            assert (name, pair) in UNDEFINED
            return
    assert (name, pair) not in UNDEFINED
    prepare(loss_of, teacher, pixels, labels)
    stages = [False]
    if any(e.two_stage for e in MethodSpec(name=name).entries()):
        stages = [True, False]
    for first in stages:
        losses = descend(
            student, teacher, loss_of, x, batch, first, RATES.get(name, RATES.get(pair, 0.001))
        )
        assert all(map(math.isfinite, losses)), losses
        # from the second on: CRD's first step sets its constants and meets a random bank
        assert losses[-1] < max(losses[:2]), losses
