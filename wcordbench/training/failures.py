"""What an error in a training means for the run and for its neighbours."""

from __future__ import annotations

import torch

from wcordbench.registry import reason
from wcordbench.training.learner import DivergedError

#: in the messages of allocations that fail outside torch's own allocator
_MEMORY = ("out of memory", "ALLOC_FAILED")
#: in the messages of a GPU, or a driver, that is broken or is not there
_DEVICE = (
    "CUDA error", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR",
    "No CUDA GPUs are available", "Found no NVIDIA driver", "NVIDIA driver on your system",
    "CUDA driver initialization failed", "Unexpected error from cudaGetDeviceCount",
)  # fmt: skip


def kind_of(error: BaseException) -> str:
    """What a failure is recorded as: ``memory``, ``device``, ``diverged`` or ``error``.

    ``device``: a GPU's fault. It shows at any later call of any run, so that nothing says whose
    it is, and every call after it fails as well: no run of the process can go on.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "memory"
    if isinstance(error, RuntimeError):
        if any(sign in str(error) for sign in _MEMORY):
            return "memory"
        if any(sign in str(error) for sign in _DEVICE):
            return "device"
    return "diverged" if isinstance(error, DivergedError) else "error"


def sentence(what: str, error: BaseException) -> str:
    """``what`` and the first line of an error's message, with a plugin's line if it is of one."""
    said = reason(error)
    return what if said == type(error).__name__ else f"{what}: {said}"


__all__ = ["kind_of", "sentence"]
