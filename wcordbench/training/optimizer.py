"""The optimiser that a protocol names, one of torch's, and what it decays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

#: devices that torch has fused optimisers for
FUSED = ("cpu", "cuda")


class Group(NamedTuple):
    """Parameters that are treated alike.

    Attributes:
        factor: on the learning rate.
        decayed: whether weight decay holds for them.
    """

    factor: float
    decayed: bool


def undecayed(*modules: nn.Module) -> set[int]:
    """The ids of norms, biases, and what a network itself leaves out of weight decay.

    Norms and biases are the parameters of one dimension, and those named so; a timm network
    names others, as its embeddings of positions, in ``no_weight_decay``.
    """
    found = set()
    for module in modules:
        asked = {
            f"{prefix}.{name}".lstrip(".")
            for prefix, part in module.named_modules()
            for name in getattr(part, "no_weight_decay", frozenset)()
        }
        found |= {
            id(parameter)
            for name, parameter in module.named_parameters()
            if parameter.ndim <= 1 or name.endswith("bias") or name in asked
        }
    return found


def build(
    protocol: dict[str, Any],
    groups: Mapping[Group, list[nn.Parameter]],
    rates: Mapping[float, Tensor],
) -> torch.optim.Optimizer:
    """The protocol's optimiser.

    Args:
        protocol: the ``train`` part of a run's configuration.
        groups: what is trained.
        rates: by a group's factor, the scalar on the device that holds its learning rate.
    """
    decay = protocol["weight_decay"]
    given = [
        {"params": parameters, "weight_decay": decay if group.decayed else 0.0}
        for group, parameters in groups.items()
    ]
    asked = protocol.get("optimizer", {})
    common: dict[str, Any] = {
        "lr": 0.0, "fused": next(iter(rates.values())).device.type in FUSED,
    }  # fmt: skip
    optimizer: torch.optim.Optimizer
    if asked.get("type") == "adamw":
        options = {key: asked[key] for key in ("betas", "eps") if key in asked}
        optimizer = torch.optim.AdamW(given, **common, **options)
    else:
        optimizer = torch.optim.SGD(
            given, **common, momentum=protocol["momentum"], nesterov=protocol["nesterov"]
        )
        if protocol["momentum"]:
            optimizer.register_step_pre_hook(_begin_momentum)
    give_rates(optimizer, groups, rates)
    return optimizer


def _begin_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Start the momentum of parameters whose first gradient comes later than the others'.

    It starts at 0, which gives what the first step gives; torch's fused step takes a first step
    of all parameters of a group, or of none.
    """
    for group in optimizer.param_groups:
        states = [(p.grad, optimizer.state[p]) for p in group["params"] if p.grad is not None]
        late = [found for found in states if found[1].get("momentum_buffer") is None]
        if len(late) < len(states):
            for grad, state in late:
                state["momentum_buffer"] = torch.zeros_like(grad)


def give_rates(
    optimizer: torch.optim.Optimizer, groups: Mapping[Group, Any], rates: Mapping[float, Tensor]
) -> None:
    """Have it read the tensors; given them from the start, it would ask for their values."""
    for held, group in zip(optimizer.param_groups, groups, strict=True):
        held["lr"] = rates[group.factor]


__all__ = ["FUSED", "Group", "build", "give_rates", "undecayed"]
