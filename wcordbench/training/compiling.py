"""Where students can be compiled."""

from __future__ import annotations

import threading

import torch

from wcordbench.errors import UserError
from wcordbench.training.precision import emulates_bf16


def check_compile(mode: str, precision: str, device: torch.device) -> None:
    """Refuse to compile where it cannot work.

    Args:
        mode: ``off``, ``default`` or ``reduce-overhead``, which is CUDA graphs.
        precision: ``fp32`` or ``bf16``, of the training.
        device: where it trains.

    Raises:
        UserError: it cannot work on this device, in this precision or in this thread.
    """
    if mode == "off":
        return
    if precision == "bf16" and emulates_bf16(device):
        raise UserError(
            f"--compile {mode} cannot keep the roundings of 'precision: bf16' on a CPU without"
            " bfloat16 units; leave one of them out"
        )
    if mode == "reduce-overhead":
        if device.type != "cuda":
            raise UserError(f"--compile {mode} is for CUDA devices; give --compile default")
        # torch keeps its graphs by thread, and only the main one has a place for them.
        if threading.current_thread() is not threading.main_thread():
            raise UserError(
                f"--compile {mode} does not work with this --executor, which trains in a"
                " thread of its own; give --compile default"
            )


__all__ = ["check_compile"]
