"""What runs cost on this machine, from a few real steps of every network and method."""

from __future__ import annotations

import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wcordbench import registry
from wcordbench.data import base as data
from wcordbench.data.base import Dataset, Images
from wcordbench.data.memory import allowing
from wcordbench.errors import UserError
from wcordbench.suite.plan import Cost, epochs, first_epochs
from wcordbench.suite.runs import Run
from wcordbench.suite.transforms import cuts_whole
from wcordbench.training.failures import kind_of
from wcordbench.training.probe import Bench, plain, term_key


@dataclass(frozen=True)
class Calibration:
    """Measured parts, from which the cost of any run of the suite is added up.

    Attributes:
        networks: of every network under a protocol: seconds of ``draw`` (a batch), ``step``
            (of its plain training) and ``evaluate`` (the whole test set), ``steps`` an epoch,
            bytes of ``weights`` and ``checkpoint``, seconds to ``start`` a worker.
        pairs: of every pair of networks: seconds of ``seen`` (the teacher's pass) and, of
            every method's term, of its ``extra`` on top of the plain step and of a ``first``
            stage's step, and its ``bytes`` in a checkpoint.
        real_images: whether the dataset was there; else the images were random.
        dataset_bytes: of the decoded images, as a cache beside them has them.
        seconds: that it took.
        memory: bytes that a process held at most, its dataset included; on CUDA those of the
            device. 0 where nothing was measured, or the system does not say.
    """

    networks: dict[str, dict[str, float]]
    pairs: dict[str, dict[str, float]]
    real_images: bool
    dataset_bytes: int
    seconds: float
    memory: int = 0

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what ``wcordbench plan --save`` wrote.

        Raises:
            UserError: the file cannot be read, or is not a calibration.
        """
        remedy = "write one with: wcordbench plan SUITE --save FILE"
        try:
            found = cls(**json.loads(path.read_bytes()))
            parts = [*found.networks.values(), *found.pairs.values()]
            numbers = [float(v) for part in parts for v in part.values()]
            if not all(0 <= number < math.inf for number in numbers):
                raise ValueError
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); {remedy}") from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise UserError(f"{path} is not a calibration; {remedy}") from None
        return found

    def cost(self, run: Run) -> Cost:
        """Seconds of one worker.

        Raises:
            UserError: a network, pair or method of the run was not measured.
        """
        try:
            return self._cost(run)
        except KeyError:
            raise UserError(
                f"the calibration does not know what {run.name} costs; measure the suite as it is"
                " now with: wcordbench plan SUITE --save FILE"
            ) from None

    def _cost(self, run: Run) -> Cost:
        config, first = run.config, first_epochs(run)
        network = self.networks[_network(config)]
        steps, own = network["steps"], network["step"]
        shared, before = network["draw"], 0.0
        if config["teacher"] is not None:
            pair = self.pairs[_pair(config)]
            shared += pair["seen"]
            for term in config["method"]["terms"]:
                own += pair["extra " + term_key(term)]
                before += pair["first " + term_key(term)]
        main = epochs(run) - first
        return Cost(
            main * (steps * own + network["evaluate"]) + first * steps * before,
            network["start"] + epochs(run) * steps * shared,
        )

    def sizes(self, run: Run) -> tuple[float, float]:
        """Bytes of a run's weights, and of a checkpoint while it trains."""
        config = run.config
        network = self.networks[_network(config)]
        terms = config["method"]["terms"]
        extra = sum(self.pairs[_pair(config)]["bytes " + term_key(t)] for t in terms)
        return network["weights"], network["checkpoint"] + extra


def calibrate(
    runs: Iterable[Run],
    data_root: Path,
    devices: Sequence[str],
    workers: int,
    threads: int,
    steps: int = 2,
    tell: Callable[[str], None] = lambda line: None,  # noqa: ARG005
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Measure every network and method of some runs, in as many processes as will train them.

    Processes that measure side by side slow each other as those that train will. A teacher's
    pass, a plain step, an evaluation and each method's loss are timed apart, so that a suite
    of many methods takes minutes. On CUDA the device is waited for around every step.

    Args:
        runs: none that is undefined for its pair.
        data_root: the folder that holds datasets. One that is not there is not downloaded;
            images of its shape are then random.
        devices: where workers train, as the executor has them.
        workers, threads: processes, and threads of each.
        steps: timed, after one to warm up; the median counts. 0 measures sizes alone, all
            times being zero.
        tell: called with a line of progress.
        clock: gives seconds; ``time.process_time`` for one thread on a machine that others use.

    Raises:
        UserError: the dataset is neither there nor of a known shape, a network or a method
            cannot be built, or a process ran out of memory.
    """
    began = time.time()
    probes = list(_probes(runs))
    copies = -(-workers // len(probes)) if probes and steps else 1
    found: dict[tuple[bool, str], list[dict[str, float]]] = {}
    context = multiprocessing.get_context("spawn")
    processes = min(workers, copies * len(probes)) or 1
    places = context.SimpleQueue()  # a process has one device, as a worker of the training
    for i in range(processes):
        places.put(devices[i % len(devices)])
    with ProcessPoolExecutor(
        processes, context, _begin, (threads, registry.plugins(), began, places)
    ) as pool:
        try:
            futures = [
                pool.submit(_measure, probe, data_root, steps, clock) for probe in probes * copies
            ]
            for number, (probe, future) in enumerate(zip(probes * copies, futures, strict=True)):
                found.setdefault((probe.of_pair, probe.key), []).append(future.result())
                tell(f"calibrating: {number + 1} of {len(futures)}")
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                what = "lost a process, which memory may have run out for"
            elif kind_of(error) == "memory":
                what = "ran out of memory"
            else:
                raise
            raise UserError(
                f"the calibration {what}; try fewer --workers, or --steps 0 for a plan without"
                " times"
            ) from None
    means = {
        key: {k: statistics.fmean(m[k] for m in measured) for k in measured[0]}
        for key, measured in found.items()
    }
    return Calibration(
        {key: m for (of_pair, key), m in means.items() if not of_pair},
        {key: m for (of_pair, key), m in means.items() if of_pair},
        all(m["real"] == 1 for m in means.values()),
        int(max((m["pixels"] for m in means.values()), default=0)),
        time.time() - began,
        int(max((m["held"] for each in found.values() for m in each), default=0)) if steps else 0,
    )


# --- what there is to measure ---------------------------------------------------------


@dataclass(frozen=True)
class _Probe:
    """What one process measures at a time: a network's plain training, or a pair.

    Attributes:
        key: what it is the measurement of.
        config: of a run.
        memory, keep: of the run.
        terms: those of all the pair's methods, each once; None for a network.
    """

    key: str
    config: dict[str, Any]
    memory: float | None
    keep: bool
    terms: list[dict[str, Any]] | None = None

    @property
    def of_pair(self) -> bool:
        return self.terms is not None


def _probes(runs: Iterable[Run]) -> Iterator[_Probe]:
    """Every pair and every network once; pairs, which take longest, first."""
    pairs: dict[str, _Probe] = {}
    networks: dict[str, _Probe] = {}
    terms: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        config, place = run.config, (run.memory, run.keep)
        networks.setdefault(_network(config), _Probe(_network(config), plain(config), *place))
        if config["teacher"] is not None:
            key = _pair(config)
            known = terms.setdefault(key, {})
            known |= {term_key(t): t for t in config["method"]["terms"]}
            if "first_stage" in config["train"] or key not in pairs:
                pairs[key] = _Probe(key, config, *place)
    for key, probe in pairs.items():
        yield replace(probe, terms=list(terms[key].values()))
    yield from networks.values()


def _network(config: dict[str, Any]) -> str:
    """Equal for runs whose plain training takes as long."""
    train = config["train"]
    parts = [config["dataset"], config.get("view"), config["model"]]
    parts += [train["batch_size"], train["precision"], train["augment"]]
    return json.dumps(parts, sort_keys=True)


def _pair(config: dict[str, Any]) -> str:
    teacher = config["teacher"]
    return _network(config) + json.dumps([teacher["model"], teacher.get("view")], sort_keys=True)


# --- in a process of its own ----------------------------------------------------------

_started, _device = 0.0, "cpu"
_datasets: dict[str, tuple[Dataset, bool]] = {}


def _begin(threads: int, plugins: tuple[Path, ...], began: float, places: Any) -> None:
    global _started, _device
    _started, _device = time.time() - began, places.get()
    torch.set_num_threads(threads)
    for plugin in plugins:
        registry.add_plugin(plugin)


def _dataset(
    run: dict[str, Any], root: Path, memory: float | None = None, keep: bool = False
) -> tuple[Dataset, bool]:
    """A run's dataset, in memory or streamed as for training; whether it is the real one."""
    config, whole = run["dataset"], cuts_whole(run["train"])
    key = json.dumps([config, whole], sort_keys=True)
    if key not in _datasets:
        before = time.time()
        try:
            with data.offline(), allowing(0.0 if whole else memory, keep):
                _datasets[key] = data.load(config, root), True
            _datasets[key][0].fingerprint(whole)  # as every worker does
            global _started
            _started += time.time() - before
        except UserError:
            random = _random_dataset(config)
            if random is None or whole:
                raise
            _datasets[key] = random, False
    return _datasets[key]


def _random_dataset(config: dict[str, Any]) -> Dataset | None:
    """Random images of a dataset's shape, if its registration says it."""
    meta = registry.get("dataset", config["name"]).meta
    known = {"classes", "size", "channels", "images", "test_images"} <= meta.keys()
    if not known or "task" in config:
        return None
    size, generator = config["size"] or meta["size"], np.random.default_rng(0)

    def split(count: int) -> Images:
        shape = (count, size, size, meta["channels"])
        return Images(
            generator.integers(0, 256, shape, np.uint8), np.arange(count) % meta["classes"]
        )

    names = tuple(map(str, range(meta["classes"])))
    held = config.get("holdout")
    if held is not None:
        return Dataset(split(meta["images"] - held), split(held), names)
    return Dataset(split(meta["images"]), split(meta["test_images"]), names)


def _measure(
    probe: _Probe, data_root: Path, steps: int, clock: Callable[[], float]
) -> dict[str, float]:
    device = torch.device(_device)
    dataset, real = _dataset(probe.config, data_root, probe.memory, probe.keep)
    bench = Bench(probe.config, dataset, device, steps, clock)
    found = bench.network() if probe.terms is None else bench.pair(probe.terms)
    pixels = dataset.train.nbytes + dataset.test.nbytes
    said = {"start": _started, "real": float(real), "pixels": float(pixels)}
    return {**found, **said, "held": float(_held(device))}


def _held(device: torch.device) -> int:
    """Bytes that this process has held at most, of the device where it is CUDA."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
