"""Peak memory of a real run: python benchmarks/footprint.py [--data DIR] [--seconds N]

``wcordbench run`` of WCoRD on the whole of CIFAR-100, resnet56 → resnet20, batch 64, in a scratch
folder, with an untrained teacher given as a checkpoint. The worker is watched until it has
computed for a while, dozens of steps, and is then stopped like by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import ROOT, network, write

SUITE = ROOT / "suites" / "cifar100.yaml"
LIMIT = 2.0


def descendants(pid: int) -> list[int]:
    """A process and all that come from it, those that have ended aside."""
    found = [pid]
    for number in found:
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def gib(pid: int, key: str) -> float:
    """A value of a process's status."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0.0
    value = re.search(rf"^{key}:\s+(\d+) kB", text, re.M)
    return int(value[1]) / 2**20 if value else 0.0


def processor_seconds(pid: int) -> float:
    """What a process has computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(data: Path, seconds: float) -> dict[str, float]:
    """GiB: the worker's peak, and all processes together at their worst."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        torch.save({"model": network("resnet56").state_dict()}, scratch / "teacher.pth")
        pair = {
            "teacher": {"model": "resnet56", "checkpoint": str(scratch / "teacher.pth")},
            "student": "resnet20",
        }
        process = subprocess.Popen(
            [
                sys.executable, "-m", "wcordbench.cli.main", "run", str(SUITE),
                "--set", f"pairs=[{json.dumps(pair)}]", "--set", "methods=[wcord]",
                "--set", "seeds=[0]", "--results", str(scratch / "results"),
                "--data", str(data.resolve()), "--device", "cpu", "--workers", "1",
                "--threads", "1",
            ],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        worker = total = computed = 0.0
        while computed < seconds and process.poll() is None:
            pids = descendants(process.pid)
            computed = max([0.0, *(processor_seconds(pid) for pid in pids[1:])])
            worker = max([worker, *(gib(pid, "VmHWM") for pid in pids[1:])])
            total = max(total, sum(gib(pid, "VmRSS") for pid in pids))
            time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit(f"the run ended with {process.returncode}: {process.communicate()[1]}")
        process.send_signal(signal.SIGINT)
        process.communicate()
    return {"worker": worker, "all processes": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time")
    arguments = parser.parse_args()
    found = watch(arguments.data, arguments.seconds)
    rows = [
        {
            "what": name,
            "peak GiB": f"{value:.2f}",
            "target": f"{LIMIT:.1f}" if name == "worker" else "",
            "met": ("yes" if value <= LIMIT else "no") if name == "worker" else "",
        }
        for name, value in found.items()
    ]
    write(
        "footprint",
        "Peak memory of a real WCoRD run",
        rows,
        [
            "Resident memory of `wcordbench run` training WCoRD, resnet56→resnet20, on the whole of"
            " CIFAR-100 at batch 64, fp32, 1 thread, torch's own libraries included. *Worker*: the"
            " process that trains; the others wait. By `python benchmarks/footprint.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
