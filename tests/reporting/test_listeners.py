"""TensorBoard, Weights & Biases and MLflow hear the same of a run, live or finished."""

from __future__ import annotations

import builtins
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from wcordbench.errors import UserError
from wcordbench.reporting.listener import listeners, replay
from wcordbench.results.store import Store, file_sha256, to_json
from wcordbench.suite.runs import Run

EPOCHS = [
    {"epoch": -1, "train_loss": 3.0, "train_top1": 10.0, "learning_rate": 0.05, "seconds": 1.0},
    {"epoch": 0, "train_loss": 2.0, "train_top1": 30.0, "learning_rate": 0.1, "seconds": 1.0,
     "test_loss": 1.5, "test_top1": 40.0, "test_top5": 80.0},
]  # fmt: skip
RUN = Run(
    {
        "dataset": {"name": "digits", "mean": [0.5]}, "model": "resnet8", "teacher": None,
        "method": {"name": "student", "terms": [{"name": "x", "weight": 1.0}]},
        "train": {"epochs": 1}, "seed": 0,
    }
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With one finished run."""
    store = Store(tmp_path / "results")
    folder = store.folder(RUN)
    folder.begin(RUN)
    folder.write_bytes("metrics.json", to_json(EPOCHS))
    folder.finish(
        {
            "id": RUN.id, "config": RUN.config, "scores": {"top1": 40.0, "top5": 80.0},
            "metrics_sha256": file_sha256(folder.path / "metrics.json"),
        }
    )  # fmt: skip
    return store


class Calls:
    """Stands for a package: keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            self.calls.append((name, arguments, more))
            return self if name in ("init", "create_run", "MlflowClient") else None

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(a, m) for n, a, m in self.calls if n == name]


def test_weights_and_biases_hears_every_epoch(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Calls()
    fake.summary = {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    told = listeners("digits", [RUN], wandb="project")
    told[0]({"kind": "step", "runs": [RUN.name]})
    assert fake.calls == []
    assert replay([RUN, RUN], store, told) == 1
    told[0].close()
    ((_, how),) = fake.named("init")
    assert how["project"] == "project" and how["name"] == RUN.name and how["config"] == RUN.config
    assert how["resume"] == "allow" and RUN.name.endswith(how["id"])
    assert [a[0]["epoch"] for a, _ in fake.named("log")] == [0, 1]
    assert fake.named("log")[1][0][0]["top1/test"] == 40.0
    assert "top1/test" not in fake.named("log")[0][0][0]
    assert fake.named("finish") == [((), {"exit_code": 0})]


def test_mlflow_hears_every_epoch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Calls()
    fake.info = types.SimpleNamespace(run_id="r1")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", fake)  # type: ignore[arg-type]
    told = listeners("digits", [RUN], mlflow="http://localhost:1")
    assert replay([RUN], store, told) == 1
    told[0].close()
    assert fake.named("create_experiment") == [(("digits",), {})]
    assert (("r1", "top1/test", 40.0), {"step": 1}) in fake.named("log_metric")
    assert (("r1", "loss/train", 3.0), {"step": 0}) in fake.named("log_metric")
    assert (("r1", "method.terms.0.name", "x"), {}) in fake.named("log_param")
    assert fake.named("set_terminated") == [(("r1", "FINISHED"), {})]


def test_what_was_stopped_is_closed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Calls()
    fake.info = types.SimpleNamespace(run_id="r1")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", fake)  # type: ignore[arg-type]
    (told,) = listeners("digits", [RUN], mlflow="http://localhost:1")
    told({"kind": "epoch", "run": RUN.name, **EPOCHS[1]})
    told.close()
    assert fake.named("set_terminated") == [(("r1", "KILLED"), {})]


def test_tensorboard_hears_of_finished_runs(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = listeners("digits", [RUN], tensorboard=tmp_path / "logs")
    assert replay([RUN], store, told) == 1
    told[0].close()
    read = EventAccumulator(str(tmp_path / "logs" / RUN.name))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("top1/test")] == [(1, 40.0)]
    assert [e.step for e in read.Scalars("loss/train")] == [0, 1]


@pytest.mark.parametrize(
    ("module", "flags", "sentence"),
    [
        ("wandb", {"wandb": "p"}, r"--wandb needs .* pip install 'wcordbench\[wandb\]'"),
        ("mlflow", {"mlflow": "x"}, r"--mlflow needs .* pip install 'wcordbench\[mlflow\]'"),
    ],
)
def test_a_package_that_is_missing_is_named(
    module: str, flags: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == module:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=sentence):
        listeners("digits", [RUN], **flags)


def test_a_service_that_cannot_be_used_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Calls):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no key\nand a stack of lines")

    monkeypatch.setitem(sys.modules, "wandb", Broken())  # type: ignore[arg-type]
    (told,) = listeners("digits", [RUN], wandb="p")
    with pytest.raises(UserError, match=r"^--wandb p: no key; log in with 'wandb login'"):
        told({"kind": "epoch", "run": RUN.name, **EPOCHS[1]})
    broken = types.ModuleType("mlflow.tracking")

    def client(uri: str) -> None:
        raise RuntimeError("refused")

    broken.MlflowClient = client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.tracking", broken)
    with pytest.raises(UserError, match="--mlflow http://x: refused"):
        listeners("digits", [RUN], mlflow="http://x")
