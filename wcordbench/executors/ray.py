"""A Ray cluster: every job is a task, placed and, when its node dies, tried again by Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wcordbench.errors import UserError
from wcordbench.executors.base import Assignment, Options, Report
from wcordbench.executors.home import Home, train_away, train_here
from wcordbench.executors.session import TICK, Session, Worker
from wcordbench.results.store import Store
from wcordbench.suite.plan import Job

#: how often Ray tries a job again whose node or process died
RETRIES = 5
#: seconds that workers which have been told to stop may take to save
GRACE = 120.0


def create(options: Options) -> RayExecutor:
    """The executor that a user's options describe."""
    own = options.only("ray-address", "scratch", "gpu-memory")
    if options.device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {options.device}: Ray chooses the device; give cpu or cuda")
    return RayExecutor(
        options, own["ray-address"], own["scratch"] and str(own["scratch"]), own["gpu-memory"]
    )


@dataclass(frozen=True)
class RayExecutor:
    """Runs jobs as tasks of a Ray cluster.

    Workers that see the results folder write into it, so it should be on a file system that
    all nodes share; what others train is brought back file by file as it is written.

    Args:
        options: ``per_gpu`` jobs share a GPU; on the CPU a job takes ``threads`` of a node's.
        address: of the cluster; None is the one that this machine belongs to, or a new one of
            this machine alone.
        scratch: folder of each node where results stay until they are brought back; given, even
            workers that see the results folder bring theirs back.
        gpu_memory: GiB that a job needs: as many share a GPU as it holds.
    """

    options: Options
    address: str | None = None
    scratch: str | None = None
    gpu_memory: float | None = None

    def run(self, jobs: list[Job], report: Report) -> None:
        """See :class:`wcordbench.executors.base.Executor`."""
        if not jobs:
            return
        Store(self.options.store_root).prepare()
        started = not ray.is_initialized()
        if started:
            _connect(self.address)
        try:
            _Session(self, jobs, report).run()
        finally:
            if started:
                ray.shutdown()


def _connect(address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
    if address is not None and address.startswith("ray://"):
        raise UserError(
            f"--ray-address {address} is a client's; run on a machine of the cluster, where"
            " --ray-address auto finds it"
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster at --ray-address {address or 'auto'}"
            f" ({str(error).strip().splitlines()[0]}); start one with `ray start --head`, or"
            " leave the option out for one of this machine alone"
        ) from None


@dataclass(eq=False)
class _Task(Worker):
    number: int
    reference: Any
    node: str | None = None


@dataclass
class _Node:
    """A node's room for jobs.

    Attributes:
        slots: jobs that it can run at once.
        share: of a GPU that a job there takes; 0 on the CPU.
    """

    id: str
    slots: int
    share: float = 0.0


class _Session(Session[_Task]):
    """Workers speak and listen through an actor on this node, :class:`Home`."""

    def __init__(self, executor: RayExecutor, jobs: list[Job], report: Report) -> None:
        self.executor, options = executor, executor.options
        self.on_gpu, self.threads, self.nodes = _capacity(options, executor.gpu_memory)
        self.choosing = self.on_gpu and executor.gpu_memory is not None
        slots = max(1, sum(n.slots for n in self.nodes))
        root = options.store_root.absolute()
        super().__init__(Store(root), jobs, report, options.workers or slots, options.workers)
        if self.choosing:
            self.limit = min(self.limit or slots, slots)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(Home)
        self.home = actor.options(num_cpus=0, scheduling_strategy=here).remote(
            str(root), uuid.uuid4().hex
        )
        self.seen = str(ray.get(self.home.mark.remote()))
        self.serial = 0

    def launch(self, jobs: list[Job], waiting: int) -> None:  # noqa: ARG002
        """Hand jobs to Ray, which starts each when there is room."""
        options = self.executor.options
        for job in jobs:
            assignment = Assignment(
                job, str(self.store.root), str(options.data_root.absolute()),
                "cuda:0" if self.on_gpu else "cpu", self.threads, options.checkpoint_minutes,
                options.compile,
            )  # fmt: skip
            node = self._choose()
            strategy: Any = "SPREAD"
            if self.choosing:  # soft: that node may be gone at a retry
                strategy = NodeAffinitySchedulingStrategy(node.id, soft=True)
            self.serial += 1
            reference = _work.options(
                name=", ".join(run.name for run in job.runs)[:200],
                num_cpus=self.threads,
                num_gpus=node.share,
                max_retries=RETRIES,
                scheduling_strategy=strategy,
            ).remote(self.home, self.serial, assignment, self.seen, self.executor.scratch)
            self.workers.append(_Task(job, self.serial, reference, node.id))

    def _choose(self) -> _Node:
        """The node with the most room left."""
        taken = [w.node for w in self.workers]
        return max(self.nodes, key=lambda n: n.slots - taken.count(n.id))

    def listen(self) -> None:
        """Hear all that was said; then see who has ended, so that no word is lost."""
        ended, _ = ray.wait(
            [w.reference for w in self.workers], num_returns=len(self.workers), timeout=TICK
        )
        workers = {w.number: w for w in self.workers}
        try:
            events = ray.get(self.home.take.remote())
        except ray.exceptions.RayActorError as error:
            raise UserError(
                f"the Ray actor that workers report to is gone ({str(error).splitlines()[0]});"
                " run the same command again to continue"
            ) from None
        for number, event in events:
            if number in workers:
                self.take(workers[number], event)
        for worker in [w for w in self.workers if w.reference in ended]:
            ray.get(self.home.release.remote(worker.number))
            self.ended(worker, _how_it_ended(worker.reference))

    def tell(self, worker: _Task) -> None:
        """One that trains saves first; one that has not begun has nothing to save."""
        if worker.loaded:
            self.home.stop.remote(worker.number)
        else:
            ray.cancel(worker.reference, force=True)

    def kill(self, worker: _Task) -> None:
        """Its process ends at once."""
        ray.cancel(worker.reference, force=True)

    def close(self) -> None:
        """Cancel what was submitted; workers that train may save."""
        self.stop_workers()
        references = [w.reference for w in self.workers]
        if references:
            _, left = ray.wait(references, num_returns=len(references), timeout=GRACE)
            for reference in left:
                ray.cancel(reference, force=True)
        self.workers.clear()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.home.close.remote(), timeout=GRACE)
        ray.kill(self.home)


def _capacity(options: Options, gpu_memory: float | None) -> tuple[bool, int, list[_Node]]:
    """Whether jobs run on GPUs, threads of each, and the nodes with room for them.

    Raises:
        UserError: no node can hold a job.
    """
    nodes = {n["NodeID"]: n["Resources"] for n in _nodes() if n["Alive"]}
    gpus = {id: int(r.get("GPU", 0)) for id, r in nodes.items() if r.get("GPU")}
    cpus = {id: int(r.get("CPU", 0)) for id, r in nodes.items()}
    if options.device == "cpu" or not gpus:
        if options.device == "cuda":
            raise UserError("--device cuda: no node of the Ray cluster has a GPU; leave it out")
        threads = options.threads or 1
        room = [_Node(id, count // threads) for id, count in cpus.items() if count >= threads]
        if not room:
            raise UserError(
                f"no node of the Ray cluster has {threads} CPUs; choose fewer --threads"
            )
        return False, threads, room
    if gpu_memory is None:
        per_gpu = dict.fromkeys(gpus, options.per_gpu or 1)
    else:
        per_gpu = {id: int(memory // gpu_memory) for id, memory in _memories(list(gpus)).items()}
    room = [_Node(id, gpus[id] * n, 1 / n) for id, n in per_gpu.items() if n]
    if not room:
        raise UserError(
            f"no GPU of the Ray cluster has --gpu-memory {gpu_memory:g} GiB; give what a job needs"
        )
    threads = options.threads or max(1, min(cpus[n.id] // n.slots for n in room))
    return True, threads, room


def _nodes() -> list[dict[str, Any]]:
    return ray.nodes()  # type: ignore[no-untyped-call,no-any-return]


def _memories(nodes: list[str]) -> dict[str, float]:
    """GiB of the smallest GPU of each node."""
    asked = {
        node: _gpu_memory.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node in nodes
    }
    return {node: ray.get(reference) for node, reference in asked.items()}


@ray.remote
def _gpu_memory() -> float:
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    found = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    return min(map(float, found)) / 1024


@ray.remote(max_calls=1)  # a process of its own: nothing is left in memory or on the device
def _work(home: Any, number: int, assignment: Assignment, seen: str, scratch: str | None) -> None:
    """A task: train one job where the results folder is seen, or bring its files back."""
    if scratch is None and Path(seen).is_file():
        train_here(home, number, assignment)
    else:
        train_away(home, number, assignment, scratch)


def _how_it_ended(reference: Any) -> str:
    try:
        ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return "it was cancelled"
    except Exception as error:  # of Ray, or what the task raised before it could report
        return f"Ray gave it up: {str(error).strip().splitlines()[-1]}"
    return "its worker was told to stop"
