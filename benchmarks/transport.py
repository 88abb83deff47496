"""How many iterations WCoRD's local term needs: python benchmarks/transport.py [--rounds N]

The transport cost after a number of iterations against its limit, on batches of embeddings as they
are early and late in a training, and what the plan takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import milliseconds, timed, write
from torch import Tensor
from torch.nn import functional as F

from wcordbench.methods.transport import ipot_plan, sinkhorn_plan

BATCH, EPSILON, BETA = 64, 0.05, 0.5
ITERATIONS = [5, 10, 20, 50, 200]
#: enough for the limit to 1e-7
LIMIT = 20_000


def batches() -> dict[str, Tensor]:
    """Cosine distances of teacher and student, ``(B, B)`` float64, by what the embeddings are."""
    generator = torch.Generator().manual_seed(0)

    def unit(dim: int) -> Tensor:
        return F.normalize(torch.randn(BATCH, dim, generator=generator, dtype=torch.float64))

    teacher, few = unit(128), unit(4)
    return {
        "unrelated": 1 - teacher @ unit(128).T,
        "aligned": 1 - teacher @ F.normalize(teacher + 0.5 * unit(128)).T,
        "unrelated, in 4 dimensions": 1 - few @ unit(4).T,
    }


def total(plan: Callable[..., Tensor], cost: Tensor, iterations: int) -> float:
    """What the plan that float32 gives transports at."""
    return (plan(cost.float(), iterations).double() * cost).sum().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plans: dict[str, Callable[..., Tensor]] = {
        "Sinkhorn, logarithms": lambda cost, n: sinkhorn_plan(cost, EPSILON, n),
        "Sinkhorn, scalings": lambda cost, n: sinkhorn_plan(cost, EPSILON, n, largest=2.0),
        "IPOT": lambda cost, n: ipot_plan(cost, BETA, n),
    }
    costs = batches()
    rows: list[dict[str, Any]] = []
    for name, plan in plans.items():
        limits = {what: (plan(c, LIMIT) * c).sum().item() for what, c in costs.items()}
        for iterations in ITERATIONS:
            single = costs["unrelated"].float()
            work = partial(plan, single, iterations)
            seconds = [timed(work, time.process_time)[0] for _ in range(arguments.rounds)]
            found = {
                what: abs(total(plan, c, iterations) / limits[what] - 1)
                for what, c in costs.items()
            }
            rows.append(
                {
                    "plan": name,
                    "iterations": iterations,
                    "ms": f"{milliseconds(seconds):.2f}",
                    **{what: f"{error:.1e}" for what, error in found.items()},
                }
            )
    write(
        "transport",
        "Iterations of WCoRD's local term",
        rows,
        [
            f"Processor time of a plan between {BATCH} teacher and {BATCH} student embeddings, ε ="
            f" {EPSILON:g}, β = {BETA:g}, float32, 1 thread, median of {arguments.rounds} rounds;"
            " and how far its cost is from that of very many iterations in float64, relative, for"
            " embeddings of 128 dimensions unless another number stands there."
            " By `python benchmarks/transport.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
