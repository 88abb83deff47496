"""Adapters of methods on pooled features and maps that use the classifiers at most."""

from __future__ import annotations

import torch
from later_golden import Evaluated, Golden, adapter, norm, numbered
from torch import Tensor


@adapter("itrd")
def itrd(golden: Golden) -> Evaluated:
    method = golden.method(
        "itrd",
        power=golden.option("alpha"),
        correlation=golden.option("lambda_correlation"),
        mutual=golden.option("lambda_mutual"),
    )
    parameters = golden.fill({"embed_weight": method.embed.weight, "embed_bias": method.embed.bias})
    correlation, mutual = method.parts(
        golden.features("s").pooled.detach(), golden.features("t").pooled
    )
    # A shift of the embedding is not seen where the mutual term takes the student itself.
    equal = golden.setup().student.pooled == golden.setup().teacher.pooled
    return Evaluated(
        golden.evaluate(method),
        parameters,
        {"correlation": correlation, "mutual": mutual},
        vanishing=("embed_bias",) if equal else (),
    )


@adapter("srrl")
def srrl(golden: Golden) -> Evaluated:
    golden.more["teacher_classifier"] = golden.classifier("t")
    method = golden.method("srrl")
    connector = method.connector
    parameters = golden.fill(
        {"connector_weight": connector[0].weight, **norm(connector[1], "connector")}
    )
    loss = golden.evaluate(method)
    feature, logit = method.parts(golden.features("s"), golden.features("t"))
    return Evaluated(loss, parameters, {"feature": feature, "logit": logit})


@adapter("wkd_f")
def wkd_f(golden: Golden) -> Evaluated:
    method = golden.method(
        "wkd_f",
        mean_ratio=golden.option("mean_ratio"),
        grid=golden.option("grid"),
        epsilon=golden.option("eps"),
    )
    projector = method.projector
    parameters = golden.fill(
        {
            "projector_weight": projector[0].weight,
            "projector_bias": projector[0].bias,
            **norm(projector[1], "projector"),
        }
    )
    loss = golden.evaluate(method)
    mean, std = method.parts(golden.features("s"), golden.features("t"))
    return Evaluated(loss, parameters, {"mean": mean, "std": std}, vanishing=("projector_bias",))


@adapter("reviewkd")
def reviewkd(golden: Golden) -> Evaluated:
    method = golden.method("reviewkd", hidden=golden.option("hidden"))
    parameters: dict[str, Tensor] = {}
    for j, level in enumerate(method.levels):
        for name, block in (("reduce", level.reduce), ("out", level.out)):
            parameters |= {f"{j}_{name}_weight": block[0].weight, **norm(block[1], f"{j}_{name}")}
        if level.attention is not None:
            parameters |= {
                f"{j}_attention_weight": level.attention.weight,
                f"{j}_attention_bias": level.attention.bias,
            }
    golden.fill(parameters)
    return Evaluated(golden.evaluate(method), parameters)


@adapter("semckd")
def semckd(golden: Golden) -> Evaluated:
    golden.more["batch_size"] = golden.size
    method = golden.method(
        "semckd", factor=golden.option("factor"), scale=golden.option("attention_scale")
    )
    parameters: dict[str, Tensor] = {}
    for kind, embeddings in (("query", method.queries), ("key", method.keys)):
        for i, embed in enumerate(embeddings):
            for layer, linear in enumerate((embed[0], embed[2])):
                parameters[f"{kind}{i}_{layer}_weight"] = linear.weight
                parameters[f"{kind}{i}_{layer}_bias"] = linear.bias
    for i, row in enumerate(method.projections):
        for j, project in enumerate(row):
            for layer in range(3):
                name = f"regressor{i}{j}_{layer}"
                parameters[f"{name}_weight"] = project[3 * layer].weight
                if layer < 2:
                    parameters |= norm(project[3 * layer + 1], name)
    golden.fill(parameters)
    attention = method.attention(golden.features("s"), golden.features("t"))
    return Evaluated(golden.evaluate(method), parameters, {"attention": attention})


@adapter("catkd")
def catkd(golden: Golden) -> Evaluated:
    golden.more |= {f"{n}_classifier": golden.classifier(n[0]) for n in ("student", "teacher")}
    method = golden.method(
        "catkd", resolution=golden.option("resolution"), normalise=golden.option("normalize")
    )
    return Evaluated(golden.evaluate(method))


@adapter("sdd_kd", "sdd_dkd", "sdd_nkd")
def sdd(golden: Golden) -> Evaluated:
    golden.more |= {f"{n}_classifier": golden.classifier(n[0]) for n in ("student", "teacher")}
    own = {"sdd_kd": {}, "sdd_dkd": {"tckd": "alpha", "nckd": "beta"}, "sdd_nkd": {"soft": "gamma"}}
    method = golden.method(
        golden.key,
        temperature=golden.option("temperature"),
        scales=tuple(golden.option("scales")),
        complementary=golden.option("complementary_weight"),
        **{name: golden.option(given) for name, given in own[golden.key].items()},
    )
    loss = golden.evaluate(method)
    cells = method.cells(golden.features("s"), golden.features("t"), golden.batch().labels)
    local = cells.teacher.argmax(2) == cells.labels
    whole = local != cells.complementary
    counts = [
        (whole & local).sum(), (whole & ~local).sum(), (~whole & local).sum(),
        (~whole & ~local).sum(),
    ]  # fmt: skip
    return Evaluated(loss, out={"counts": torch.stack(counts)})


@adapter("ofd")
def ofd(golden: Golden) -> Evaluated:
    weights, biases = (numbered(golden.raw("t"), "bn", f"_{w}") for w in ("weight", "bias"))
    golden.more["teacher_norms"] = tuple(zip(weights, biases, strict=True))
    method = golden.method("ofd")
    parameters: dict[str, Tensor] = {}
    for i, connector in enumerate(method.connectors):
        name = f"{i}_connector"
        parameters |= {f"{name}_weight": connector[0].weight, **norm(connector[1], name)}
    golden.fill(parameters)
    out = {f"margin{i}": method.get_buffer(f"margin{i}") for i in range(len(weights))}
    return Evaluated(golden.evaluate(method), parameters, out)
