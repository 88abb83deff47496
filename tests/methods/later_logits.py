"""Adapters of the methods on the logits."""

from __future__ import annotations

import torch
from later_golden import Evaluated, Golden, adapter


@adapter("dkd")
def dkd(golden: Golden) -> Evaluated:
    method = golden.method(
        "dkd",
        temperature=golden.option("temperature"),
        tckd=golden.option("alpha"),
        nckd=golden.option("beta"),
    )
    return Evaluated(golden.evaluate(method))


@adapter("kd_ls")
def kd_ls(golden: Golden) -> Evaluated:
    method = golden.method(
        "kd_ls", temperature=golden.option("temperature"), epsilon=golden.option("eps")
    )
    return Evaluated(golden.evaluate(method))


@adapter("dkd_ls")
def dkd_ls(golden: Golden) -> Evaluated:
    method = golden.method(
        "dkd_ls",
        temperature=golden.option("temperature"),
        tckd=golden.option("alpha"),
        nckd=golden.option("beta"),
        epsilon=golden.option("eps"),
    )
    return Evaluated(golden.evaluate(method))


@adapter("ctkd", "ctkd_ls")
def ctkd(golden: Golden) -> Evaluated:
    assert (golden.option("lambda_max"), golden.option("lambda_min")) == (0, -1)
    method = golden.method(
        golden.key,
        start=golden.option("t_start"),
        span=golden.option("t_range"),
        reversal_epochs=golden.option("lambda_epochs"),
    )
    parameters = golden.fill({"temperature": method.temperature.theta})
    epoch, factors = golden.batch().epoch, golden.data["out_lambda_by_epoch"]
    out = {
        "temperature": method.temperature(epoch),
        "lambda": torch.tensor(method.temperature.reversal(epoch)),
        "lambda_by_epoch": torch.tensor(
            [method.temperature.reversal(e) for e in range(len(factors))]
        ),
    }
    return Evaluated(golden.evaluate(method), parameters, out)


@adapter("dist")
def dist(golden: Golden) -> Evaluated:
    method = golden.method(
        "dist",
        temperature=golden.option("temperature"),
        inter=golden.option("beta"),
        intra=golden.option("gamma"),
        epsilon=golden.option("eps"),
    )
    return Evaluated(golden.evaluate(method))


@adapter("ttm", "wttm")
def ttm(golden: Golden) -> Evaluated:
    return Evaluated(golden.evaluate(golden.method(golden.key, exponent=golden.option("gamma"))))


@adapter("rld")
def rld(golden: Golden) -> Evaluated:
    method = golden.method(
        "rld",
        temperature=golden.option("temperature"),
        confidence_temperature=golden.option("alpha_temperature"),
        scd=golden.option("alpha"),
        mcd=golden.option("beta"),
    )
    return Evaluated(golden.evaluate(method))
