"""Adapters of the methods that change what the student predicts."""

from __future__ import annotations

import torch
from later_golden import Evaluated, Golden, adapter, norm
from torch import Tensor, nn

from wcordbench.methods.base import Method


def adapted(golden: Golden, method: Method) -> Evaluated:
    """The loss as the objective has it: the features adapted first."""
    student, teacher = method.adapt(golden.features("s"), golden.features("t"))
    assert teacher is not None
    loss: Tensor = method(student, teacher, golden.batch())
    return Evaluated(loss, out={"logits": student.logits})


@adapter("simkd")
def simkd(golden: Golden) -> Evaluated:
    golden.more["teacher_classifier"] = golden.classifier("t")
    method = golden.method("simkd", factor=golden.option("factor"))
    parameters: dict[str, Tensor] = {}
    for layer in range(3):
        convolution, batch_norm = method.projector[3 * layer : 3 * layer + 2]
        parameters |= {f"{layer}_weight": convolution.weight, **norm(batch_norm, str(layer))}
    golden.fill(parameters)
    found = adapted(golden, method)
    # From the running statistics that this one pass has left.
    with torch.no_grad():
        predicted, _ = method.eval().adapt(golden.features("s"), None)
    found.parameters, found.out["logits_eval"] = parameters, predicted.logits
    return found


@adapter("norm")
def norm_(golden: Golden) -> Evaluated:
    channels = golden.features("s").shapes().last_map
    assert channels is not None
    golden.more["student_classifier"] = nn.Linear(channels[0], golden.classes)
    method = golden.method("norm", copies=golden.option("copies"))
    parameters: dict[str, Tensor] = {}
    for name, block in (("expand", method.expand), ("contract", method.contract)):
        parameters |= {f"{name}_weight": block[0].weight, **norm(block[1], name)}
    golden.fill(parameters)
    found = adapted(golden, method)
    student, _ = method.adapt(golden.features("s"), golden.features("t"))
    assert student.last_map is not None
    found.parameters, found.out = parameters, {"map": student.last_map}
    return found
