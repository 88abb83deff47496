"""What made a result: versions, machine, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

from wcordbench import __version__
from wcordbench.devices import instructions


def environment(device: Any) -> dict[str, Any]:
    """Versions, device, threads, host and commit, for a result's record.

    Args:
        device: the ``torch.device`` that trained.
    """
    import torch

    versions = {
        name: importlib.metadata.version(name) for name in ("torch", "torchvision", "timm", "numpy")
    }
    name = processor()
    driver = tf32 = products = None
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        driver = _driver()
        # On Ampere and later, torch's convolutions in fp32 round their operands to TF32, and its
        # products where an environment variable or a plugin asks for it.
        recent = torch.cuda.get_device_capability(device) >= (8, 0)
        tf32 = bool(torch.backends.cudnn.allow_tf32 and recent)
        products = bool(torch.backends.cuda.matmul.allow_tf32 and recent)
    return {
        "wcordbench": __version__,
        "python": platform.python_version(),
        **versions,
        "device": device.type,
        "device_name": name,
        "instructions": instructions() if device.type == "cpu" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "driver": driver,
        "tf32": tf32,
        "tf32_products": products,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "host": socket.gethostname(),
        **commit(),
    }


def device_of_host(device: str) -> str:
    """A device by its host's numbering: a scheduler shows a process only those it may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not device.startswith("cuda") or not visible:
        return device
    return f"cuda:{visible.split(',')[int(device.partition(':')[2] or 0)]}"


def _driver() -> str | None:
    """The NVIDIA driver's version."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[0].strip() or None


def processor() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit() -> dict[str, Any]:
    """The git commit of the code, and whether its tree was clean.

    Both are None where the package is not tracked by git: an installed package may well lie
    within somebody else's checkout.
    """
    package = Path(__file__).parents[1]

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *args], cwd=package, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return {"commit": None, "clean": None}
    changed = git("status", "--porcelain", "--", ".")
    return {"commit": git("rev-parse", "HEAD"), "clean": None if changed is None else not changed}
