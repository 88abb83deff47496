"""A real Ray cluster of several nodes on this machine, each its own processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
# nodes inherit it; workers at Ray's niceness of 15 wait for ever beside other tests
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from small import Small, interrupt_at  # noqa: E402

from wcordbench.errors import UserError  # noqa: E402
from wcordbench.executors import base  # noqa: E402
from wcordbench.executors import ray as executor_module  # noqa: E402
from wcordbench.executors.base import Executor, InterruptedRunError, Options  # noqa: E402
from wcordbench.executors.ray import _capacity, _Node  # noqa: E402
from wcordbench.results.store import RunFolder  # noqa: E402


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without a CPU, where the command is, and two nodes of one."""
    made = start()
    try:
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def start() -> Any:
    """Ray gives a node 15 seconds to start, whatever else the machine does: try again."""
    for _ in range(3):
        made = cluster_utils.Cluster()
        try:
            made.add_node(num_cpus=0, include_dashboard=False)
            for _ in range(2):
                made.add_node(num_cpus=1)
            return made
        except Exception:
            made.shutdown()
    pytest.skip("this machine is too busy to start Ray's nodes in the time that Ray gives them")


def make(small: Small, name: str, away: bool, **options: Any) -> Executor:
    """An executor with a store of its own; ``away``: workers do not use the results folder."""
    own = {"scratch": small.folder / "scratch"} if away else {}
    place = small.store(name).root
    return base.by_name("ray", Options(place, small.folder, "cpu", own=own, **options))


def kill_node(worker: int) -> None:
    """A node is gone at once: the raylet that has started a worker, and all its processes."""
    raylet = parent(worker)
    for process in Path("/proc").glob("[0-9]*"):
        if parent(int(process.name)) == raylet:
            os.kill(int(process.name), signal.SIGKILL)
    os.kill(raylet, signal.SIGKILL)


def parent(process: int) -> int:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def test_the_bits_are_the_local_ones_on_several_nodes(cluster: Any, tmp_path: Path) -> None:
    small = Small(tmp_path, epochs=1)
    small.train_locally()
    raylets = set()

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "job":
            assert event["threads"] == 1 and event["host"]
            raylets.add(parent(event["pid"]))

    events = small.train(make(small, "store", away=False), on_event)
    small.check(small.store("store"), events)
    assert len(raylets) == 2  # the students were on both nodes


@pytest.mark.parametrize("away", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_node_killed_in_mid_run(cluster: Any, tmp_path: Path, away: bool) -> None:
    """Ray starts its job on another node, from the last checkpoint; nothing is done twice."""
    small = Small(tmp_path, epochs=6)
    small.train_locally()
    where: dict[str, int] = {}
    killed: list[tuple[str, int, int]] = []

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "job":
            where.update(dict.fromkeys(event["runs"], event["pid"]))
        elif event["kind"] == "epoch" and 2 <= event["epoch"] < 5 and not killed:
            time.sleep(0.2)  # the checkpoint of the epoch is being written
            folder = RunFolder(tmp_path / "store" / "runs" / event["run"])
            checkpoint = folder.read_sealed("checkpoint.pt")
            if checkpoint is not None:  # where saving is slow, not every epoch has one
                saved = torch.load(checkpoint, weights_only=True)["epoch"]
                kill_node(where[event["run"]])
                killed.append((event["run"], event["epoch"], saved))

    events = small.train(make(small, "store", away), on_event)
    assert killed
    small.check(small.store("store"), events)
    assert "Ray has started another" in next(e["line"] for e in events if e["kind"] == "note")
    ((run, epoch, saved),) = killed
    resumed = next(e["epoch"] for e in events if e["kind"] == "resumed" and e["run"] == run)
    assert resumed >= saved >= 1
    epochs = [e["epoch"] for e in events if e["kind"] == "epoch" and e["run"] == run]
    assert sorted(set(epochs)) == list(range(6)) and len(epochs) <= 6 + epoch + 1 - saved


def test_ctrl_c_saves_and_cancels(cluster: Any, tmp_path: Path) -> None:
    small = Small(tmp_path, epochs=30)
    with pytest.raises(InterruptedRunError) as error:
        small.train(make(small, "store", False, workers=1), interrupt_at("epoch", 3))
    assert error.value.saved
    store = small.store("store")
    states = [store.folder(r).state for r in small.runs]
    assert states[0] == "done" and states.count("begun") >= 1
    for run in small.runs[1:]:
        folder = store.folder(run)
        assert not folder.held()
        if folder.state == "begun":
            assert folder.read_sealed("checkpoint.pt") is not None
    assert {p.name for p in store.root.iterdir()} == {"runs"}
    assert ray.available_resources().get("CPU", 0) <= 2
    again = small.train(make(small, "store", False))
    assert "resumed" in {e["kind"] for e in again} and "lost" not in {e["kind"] for e in again}
    assert {store.folder(r).state for r in small.runs} == {"done"}


# --- without a cluster ------------------------------------------------------------------


def nodes(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    found = [{"NodeID": f"n{i}", "Alive": True, "Resources": r} for i, r in enumerate(resources)]
    monkeypatch.setattr(executor_module, "_nodes", lambda: found)


def test_room_on_cpus_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(Path(), Path(), threads=2)
    nodes(monkeypatch, {"CPU": 5.0}, {"CPU": 1.0})
    assert _capacity(options, None) == (False, 2, [_Node("n0", 2)])
    nodes(monkeypatch, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0})
    assert _capacity(Options(Path(), Path()), None) == (
        True, 4, [_Node("n0", 4, 1.0), _Node("n1", 1, 1.0)],
    )  # fmt: skip
    shared = _capacity(Options(Path(), Path(), per_gpu=4), None)
    assert shared == (True, 1, [_Node("n0", 16, 0.25), _Node("n1", 4, 0.25)])
    assert not _capacity(Options(Path(), Path(), "cpu"), None)[0]


def test_jobs_share_a_gpu_as_its_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, *[{"CPU": 16.0, "GPU": 2.0}] * 3)
    memory = {"n0": 80.0, "n1": 24.0, "n2": 8.0}
    monkeypatch.setattr(executor_module, "_memories", lambda _: memory)
    _, _, room = _capacity(Options(Path(), Path(), threads=1), 10.0)
    assert room == [_Node("n0", 16, 1 / 8), _Node("n1", 4, 1 / 2)]
    with pytest.raises(UserError, match="no GPU of the Ray cluster has --gpu-memory 90 GiB"):
        _capacity(Options(Path(), Path()), 90.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(Path(), Path(), "cuda:1"), "--device cuda:1: Ray chooses the device"),
        (Options(Path(), Path(), own={"slurm": ["time=1"]}), "--slurm does not belong"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: Options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        base.by_name("ray", options)


def test_a_cluster_that_cannot_hold_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 2.0})
    with pytest.raises(UserError, match="has 3 CPUs; choose fewer --threads"):
        _capacity(Options(Path(), Path(), threads=3), None)
    with pytest.raises(UserError, match="--device cuda: no node of the Ray cluster has a GPU"):
        _capacity(Options(Path(), Path(), "cuda"), None)


def test_a_client_address_is_refused(tmp_path: Path) -> None:
    small = Small(tmp_path, epochs=1)
    executor = base.by_name(
        "ray", Options(tmp_path / "r", tmp_path, own={"ray-address": "ray://127.0.0.1:1"})
    )
    with pytest.raises(UserError, match="is a client's; run on a machine of the cluster"):
        small.train(executor)
