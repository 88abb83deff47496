"""Steps of the methods that came after CRD: python benchmarks/later.py [--rounds N]

As benchmarks/steps.py, of which this is a part, in processor time: for a machine that others use.
What a method does before training (WKD-L's distances between classes) is not in it.
"""

from __future__ import annotations

import argparse
import time

import torch
from common import write
from steps import BATCH, measure

PAIR = ("resnet56", "resnet20")
METHODS = (
    "student", "kd", "crd", "wcord", "dkd", "kd_ls", "dkd_ls", "dist", "ctkd", "ctkd_ls", "ttm",
    "wttm", "rld", "mlkd", "mlkd_ls", "wkd_l", "wkd_f", "sdd_kd", "sdd_dkd", "sdd_nkd", "reviewkd",
    "ofd", "catkd", "itrd", "srrl", "semckd", "simkd", "norm",
)  # fmt: skip
#: of a row of benchmarks/steps.py; its targets are not these methods'
KEYS = ("pair", "method", "step", "beyond", "step/floor", "peak MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(*PAIR, list(METHODS), arguments.rounds, time.process_time, "fp32")
    write(
        "later",
        "Steps of the later methods",
        [{key: row[key] for key in KEYS} for row in rows],
        [
            f"Milliseconds of processor time at batch {BATCH} of 32×32 images, fp32, medians of"
            f" {arguments.rounds} rounds. *Step*: data, the teacher's pass, the student and the"
            " method. *Beyond*: the method alone; MLKD's second view with the teacher's and the"
            " student's pass over it. *Peak*: all tensors alive at a step's worst moment, the"
            " teacher's features included; – where a layer of the student is called twice, which"
            " the tracker does not follow (memory.md has what each loss takes). By"
            " `python benchmarks/later.py`, on:",
        ],
    )


if __name__ == "__main__":
    main()
