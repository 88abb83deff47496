"""Weights from files: what is accepted, and one clear sentence for what is not."""

from __future__ import annotations

import argparse
import datetime
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wcordbench import models
from wcordbench.data.notes import listening
from wcordbench.errors import UserError
from wcordbench.models.wrap import WithFeatures


def zeros(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value * 0 for key, value in state.items()}


#: of the same architecture, wider
TEACHER = {
    f"teacher.{k}": v for k, v in models.create("wrn_16_2", num_classes=100).state_dict().items()
}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return models.create("resnet8", num_classes=100).state_dict()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(2)
    return models.create("resnet8", num_classes=100)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "epoch": 240, "accuracy": torch.tensor(72.5)},
        lambda s: {"model": s, "opt": argparse.Namespace(model="resnet8", lr_decay=[150, 180])},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
        lambda s: {f"module._orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"net.backbone.{k}": v for k, v in s.items()}, "epoch": 3},
        lambda s: {"net": s, "acc": 75.1, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        lambda s: {"anything": {"at_all": {f"x.{k}": v for k, v in s.items()}}},
        lambda s: {"model": s, "best_acc": np.float64(75.1), "history": np.arange(3.0)},
        lambda s: {**s, "best_acc": np.float32(75.1), "epoch": 9},
        lambda s: {
            "state_dict": {**{f"model.{k}": v for k, v in s.items()}, "loss.w": s["fc.bias"]}
        },
        lambda s: {"state_dict": {k: v * 0 for k, v in s.items()}, "state_dict_ema": s},
        lambda s: {"model_ema": {f"module.{k}": v for k, v in s.items()}, "model": zeros(s)},
        lambda s: {"model": s, "best": zeros(s)},
        lambda s: {f"student.{k}": v for k, v in s.items()} | TEACHER,
    ],
    ids=[
        "bare",
        "crd",
        "crd-last",
        "data-parallel",
        "old",
        "compiled",
        "lightning",
        "net",
        "deep",
        "numpy",
        "flat-numpy",
        "beside",
        "ema",
        "ema-first",
        "usual",
        "distilled",
    ],
)
def test_accepts(
    wrap: Callable[[Any], Any], state: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    torch.save(wrap(state), tmp_path / "a.pth")
    models.load_checkpoint(model, tmp_path / "a.pth")
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_accepts_the_format_before_zip(
    state: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    torch.save({"model": state}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    models.load_checkpoint(model, str(tmp_path / "a.pth"))
    assert torch.equal(model.state_dict()["fc.bias"], state["fc.bias"])


def assert_refused(model: nn.Module, path: Path, *parts: str) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        models.load_checkpoint(model, path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_missing_and_unreadable(model: nn.Module, tmp_path: Path) -> None:
    assert_refused(model, tmp_path / "none.pth", "does not exist", "download")
    assert_refused(model, tmp_path, "cannot be read")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated(
    new_format: bool,
    share: float,
    state: dict[str, torch.Tensor],
    model: nn.Module,
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=new_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert_refused(model, path, "is damaged or not a PyTorch file", "download it again")


def test_other_files(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_text("<!DOCTYPE html><html>404</html>")
    assert_refused(model, path, "not a PyTorch file")
    path.write_bytes(bytes(range(256)) * 20)
    assert_refused(model, path, "not a PyTorch file")
    for content in ([1, 2], {}, {"model": {"epoch": 3}}, {"epoch": 3}, torch.zeros(3)):
        torch.save(content, path)
        assert_refused(model, path, "holds no weights", "state_dict")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil_ran"),))


def test_code_is_refused_and_not_run(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    torch.save({"model": Evil()}, path)
    assert_refused(model, path, "could run code", "save its state_dict alone")
    torch.save({"when": datetime.date(2020, 1, 1)}, path)
    assert_refused(model, path, "datetime.date", "could run code")
    torch.save(model, path)
    assert_refused(model, path, "wcordbench.models.resnet.ResNet", "could run code")
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    assert_refused(model, path)
    assert not (tmp_path / "evil_ran").exists()


def test_other_architectures(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for name, part in (
        ("vgg8", "lacks conv1.weight and"),
        ("resnet14", "has the unknown layer1.1.conv1.weight"),
        ("resnet8x4", "has the unknown layer1.0.downsample.0.weight"),
    ):
        torch.save({"model": models.create(name, num_classes=100).state_dict()}, path)
        assert_refused(model, path, "another architecture", part, "name the model")
    torch.save(models.create("resnet8", num_classes=10, in_channels=1).state_dict(), path)
    assert_refused(model, path, "conv1.weight is (16, 1, 3, 3), not (16, 3, 3, 3)", "name the")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("resnet8", "fc.weight"),
        ("mobilenetv2", "classifier.0.weight"),
        ("vgg8", "classifier.weight"),
    ],
)
def test_other_class_count(name: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(models.create(name, num_classes=10).state_dict(), path)
    model = models.create(name, num_classes=100)
    assert_refused(model, path, f"has 10 classes in {key}, the suite's dataset has 100", "give")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged(
    value: float, state: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    bad = {k: v.clone() for k, v in state.items()}
    bad["layer2.0.bn1.running_var"][3] = value
    torch.save(bad, tmp_path / "a.pth")
    assert_refused(model, tmp_path / "a.pth", "NaN or infinite", "layer2.0.bn1.running_var")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            lambda s: {"state_dict": zeros(s), "state_dict_ema": s},
            ["'state_dict_ema'", "EMA", "not"],
        ),
        (lambda s: {"model": s, "best": zeros(s)}, ["'model'", "not 'best'"]),
        (lambda s: {**{f"model.{k}": v for k, v in s.items()}, "loss.w": s["fc.bias"]}, ["loss.w"]),
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, []),
        (lambda s: {"model": s}, []),
    ],
)
def test_a_choice_is_said_and_no_choice_is_not(
    content: Callable[[Any], Any],
    parts: list[str],
    state: dict[str, torch.Tensor],
    model: nn.Module,
    tmp_path: Path,
) -> None:
    torch.save(content(state), tmp_path / "a.pth")
    lines: list[str] = []
    with listening(lines.append):
        models.load_checkpoint(model, tmp_path / "a.pth")
    assert len(lines) == bool(parts)
    assert all(part in lines[0] for part in [str(tmp_path), *parts]) if parts else True


def test_two_networks_that_could_be_meant_are_refused(
    state: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    both = {f"encoder_{x}.{k}": v for x in "qk" for k, v in state.items()}
    torch.save({"state_dict": both}, tmp_path / "a.pth")
    assert_refused(model, tmp_path / "a.pth", "'state_dict.encoder_q'", "save one of them")


def test_quantised_weights_are_refused(
    state: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    torch.save({**state, "conv1.weight": state["conv1.weight"].to(torch.int8)}, tmp_path / "a.pth")
    assert_refused(model, tmp_path / "a.pth", "int8 values in conv1.weight", "quantised")


def test_another_architecture_behind_a_prefix_is_named_without_it(
    model: nn.Module, tmp_path: Path
) -> None:
    other = models.create("resnet14", num_classes=100).state_dict()
    torch.save({"net": {f"_orig_mod.{k}": v for k, v in other.items()}}, tmp_path / "a.pth")
    assert_refused(
        model, tmp_path / "a.pth", "another architecture", "unknown layer1.1.conv1.weight"
    )


@pytest.mark.parametrize("prefix", ["", "network.", "module.", "module.network."])
def test_a_wrapped_network_takes_its_own_file(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    wrapped = WithFeatures(network, "0", ["2"], "3", "4")
    torch.save(
        {"model": {prefix + k: v + 1 for k, v in network.state_dict().items()}}, tmp_path / "a"
    )
    models.load_checkpoint(wrapped, tmp_path / "a")
    want = torch.load(tmp_path / "a")["model"]
    got = wrapped.state_dict()
    assert all(torch.equal(got["network." + k.removeprefix(prefix)], v) for k, v in want.items())
    torch.save(wrapped.state_dict(), tmp_path / "b")
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    models.load_checkpoint(plain, tmp_path / "b")
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in network.state_dict().items())
