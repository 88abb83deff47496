"""Adapters of the methods on the logits."""

from __future__ import annotations

import torch
from later_golden import Evaluated, Golden, adapter

from wcordbench.methods.base import Features, SecondView


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


@adapter("wkd_l")
def wkd_l(golden: Golden) -> Evaluated:
    given = golden.data["in_class_features"]  # rows in the order of the data
    golden.per_class = given.shape[1]
    method = golden.method(
        "wkd_l",
        temperature=golden.option("temperature"),
        transport=golden.option("weight"),
        sharpen=golden.option("sharpen"),
        regularisation=golden.option("regularisation"),
        iterations=golden.option("iterations"),
    )
    labels = torch.arange(len(given))

    def seen(row: int) -> Features:
        """The row's image of each class: a map of one pixel."""
        pixel = given[:, row]
        logits = torch.zeros(len(given), len(given))
        return Features(pixel, (), (), pixel, logits, pixel[:, :, None, None])

    method.prepare((seen(row), labels) for row in range(given.shape[1]))
    parts = method.parts(
        golden.data["in_s_logits"], golden.data["in_t_logits"], golden.data["in_labels"]
    )
    from wcordbench.methods.wkd_l import class_distances

    out = {
        "distance": class_distances(given),
        "cost": method.cost,
        "target": parts[0],
        "wasserstein": parts[1],
    }
    return Evaluated(golden.evaluate(method), out=out)


@adapter("mlkd", "mlkd_ls")
def mlkd(golden: Golden) -> Evaluated:
    method = golden.method(
        golden.key,
        temperature=golden.option("temperature"),
        percentile=float(golden.option("percentile")),
    )
    assert sorted(golden.option("other_temperatures")) == sorted((*method.BOTH, *method.WEAK))
    (student, teacher), second = (
        [golden.features(side, view) for side in "st"] for view in ("_weak", "_strong")
    )
    batch = golden.batch()._replace(second=SecondView(*second))
    kd, by_class, by_image = method.parts(
        student.logits, teacher.logits, second[0].logits, second[1].logits
    )
    out = {"kd": kd, "class": by_class, "batch": by_image}
    return Evaluated(method(student, teacher, batch), out=out)
