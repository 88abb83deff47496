"""Which devices there are, and what a user may call them."""

from __future__ import annotations

import os
import re
from typing import Any

from wcordbench.errors import UserError


def available(wanted: str | None) -> list[str]:
    """The devices to use.

    Args:
        wanted: ``cpu``, ``cuda`` or ``cuda:0``; None for every CUDA device, or else the CPU.

    Raises:
        UserError: it is none of these, or not there.
    """
    if wanted is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", wanted):
        raise UserError(f"--device {wanted!r} is not known; give cpu, cuda or cuda:0")
    if wanted == "cpu":
        return ["cpu"]
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted is None:
        return [f"cuda:{i}" for i in range(count)] or ["cpu"]
    if int(wanted.partition(":")[2] or 0) >= count:
        raise UserError(
            f"--device {wanted} is not there ({count} CUDA devices); leave it out to take what"
            " there is"
        )
    return [wanted]


#: oneDNN's kernels for bfloat16 and float32, by what torch.cpu.get_capabilities() calls the
#: instructions that they need; the best come first
_KERNELS = {
    "AVX512_CORE_AMX": "amx_bf16",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE": "avx512_f",
    "AVX2": "avx2",
    "AVX": "avx",
    "SSE41": "sse4_1",
}
#: what ONEDNN_MAX_CPU_ISA may say beside those, and the next of them below it
_CAPS = {
    "DEFAULT": "AVX512_CORE_AMX",
    "ALL": "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16": "AVX512_CORE_AMX",
    "AVX10_1_512_AMX": "AVX512_CORE_AMX",
    "AVX10_1_512_AMX_FP16": "AVX512_CORE_AMX",
    "AVX512_CORE_FP16": "AVX512_CORE_BF16",
    "AVX10_1_512": "AVX512_CORE_BF16",
    "AVX512_CORE_VNNI": "AVX512_CORE",
    "AVX2_VNNI": "AVX2",
    "AVX2_VNNI_2": "AVX2",
}


def capabilities() -> dict[str, Any] | None:
    """What PyTorch says that this CPU can do; older versions say nothing, which is None."""
    import torch

    asked = getattr(torch.cpu, "get_capabilities", None)
    return None if asked is None else dict(asked())


def instructions() -> str:
    """The instruction sets that PyTorch and its convolutions use on this CPU.

    A run's bits depend on them, in fp32 also on the processor's maker, by which MKL chooses its
    kernels. With the environment variables ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA`` a
    processor takes those of an older one.

    Returns:
        PyTorch's and oneDNN's, as ``AVX512 AVX512_CORE_AMX``; PyTorch's alone where it does not
        say what the processor can do.
    """
    import torch

    own = str(torch.backends.cpu.get_cpu_capability())
    known = capabilities()
    if known is None:
        return own
    kernels = [name for name, needed in _KERNELS.items() if known.get(needed)]
    cap = (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").upper()
    cap = _CAPS.get(cap, cap)
    if cap in _KERNELS:
        order = list(_KERNELS)
        kernels = [name for name in kernels if order.index(name) >= order.index(cap)]
    return f"{own} {kernels[0] if kernels else 'DEFAULT'}"


__all__ = ["available", "capabilities", "instructions"]
