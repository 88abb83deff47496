"""How many operations a training step is: python benchmarks/operations.py

Counted by torch's profiler on the CPU: what torch dispatches, without views and allocations, which
start nothing on a device. What torch has a CUDA kernel for counts once, whatever the CPU makes of
it; all else counts as what it consists of. A GPU has about one kernel to launch for each. What is
done in blocks for the CPU's cache (the products with memory banks) is fewer on a GPU.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import batches_of, benchmark_runs, features, learner, network, write
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

TEACHER, STUDENT, BATCH = "resnet56", "resnet20", 64
METHODS = ["student", "kd", "crd", "wcord"]
COHORT = 4
#: kernels of the CPU alone, for what has another name on CUDA
CPU_ONLY = {"mkldnn_convolution", "_slow_conv2d_forward", "thnn_conv2d"}
#: operations that have a kernel and give memory, another look at a tensor, or a Python number
NOTHING = {
    "_local_scalar_dense", "_reshape_alias", "as_strided", "as_strided_", "empty", "empty_strided",
    "is_set_to", "resize_", "set_", "unfold", "view", "promote_types", "result_type", "detach",
    "alias", "lift_fresh", "item", "random_",
}  # fmt: skip


def operations(action: Callable[[], Any]) -> int:
    """How many something dispatches."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        action()
    return sum(_count(event) for event in profiler.events() if event.cpu_parent is None)


def _count(event: FunctionEvent) -> int:
    """1 for a kernel, else the sum of what it consists of."""
    namespace, _, name = event.name.partition("::")
    if namespace == "aten" and name not in NOTHING and event.name in _with_kernels():
        return 1
    inner = sum(_count(child) for child in event.cpu_children)
    return inner or int(name in CPU_ONLY)


@functools.cache
def _with_kernels() -> set[str]:
    """The operations that any overload has a CUDA kernel of its own for."""
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")
    return {name.partition(".")[0] for name in registered}


def measure() -> list[dict[str, Any]]:
    """A row a method: of a step alone, and a run's share in a cohort."""
    runs = benchmark_runs(TEACHER, STUDENT, METHODS)
    drawn = batches_of(next(iter(runs.values())).config, BATCH)
    next(drawn)  # an epoch's first draws its order
    data = operations(lambda: next(drawn))
    images, batch = next(drawn)
    source = network(TEACHER)
    seen = operations(lambda: features(source, images))
    known = features(source, images)
    rows = []
    for name, run in runs.items():
        trained = learner(run, BATCH)
        trained.start_epoch()
        given = known if trained.needs_teacher else None
        step = partial(trained.train_step, images, given, batch)
        for _ in range(2):  # the first step sets constants and the optimiser's state
            step()
        own, shared = operations(step), data + seen * trained.needs_teacher
        rows.append(
            {
                "method": name,
                "batch": data,
                "teacher": seen * trained.needs_teacher,
                "step": own,
                "alone": own + shared,
                f"a run of a cohort of {COHORT}": round(own + shared / COHORT),
            }
        )
    return rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    write(
        "operations",
        "Operations a training step",
        measure(),
        [
            f"Dispatched operations without views and allocations, {TEACHER}→{STUDENT}, batch"
            f" {BATCH}, fp32, counted by torch's profiler on the CPU. *Batch*: order, crops and"
            " flips. *Teacher*: its forward pass. *Step*: the student's forward and backward pass,"
            " the method, the optimiser. A cohort makes batches and the teacher's pass once. By"
            " `python benchmarks/operations.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
