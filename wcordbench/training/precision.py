"""What bf16 means on each device: which multiply it themselves, and autocast for all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wcordbench.devices import capabilities


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has arithmetic units for bfloat16, so that bf16 is the faster choice."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        known = capabilities() or {}
        return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("bf16"))
    return False


def resolve(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``: what ``auto`` means on a device, anything else as it is."""
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bf16(device) else "fp32"


def emulates_bf16(device: torch.device) -> bool:
    """Whether bf16 is :class:`RoundedConvolutions` on a device."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Within it networks and losses run in a precision.

    Args:
        precision: ``fp32``, or ``bf16`` for torch's autocast. On a CPU that lacks bfloat16
            convolutions, those keep bf16's roundings but use fp32 arithmetic, see
            :class:`RoundedConvolutions`; torch's own are many times slower there.
        device: where the computation is.
    """
    with contextlib.ExitStack() as within:
        if precision == "bf16":
            within.enter_context(torch.autocast(device.type, torch.bfloat16))
            if emulates_bf16(device):
                within.enter_context(RoundedConvolutions())
        yield


class RoundedConvolutions(TorchFunctionMode):
    """Makes 2-d convolutions those of bfloat16 units, computed in fp32.

    Input, weight and incoming gradient are rounded to bfloat16, products are summed in fp32
    and the sum is rounded to bfloat16, in the forward and the backward pass: what tensor cores
    do under autocast, and what torch's own kernel does within the rounding of its sums.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Replace ``conv2d``; everything else is as it was."""
        if func is torch.conv2d:
            return _rounded_conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _rounded_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None,
    stride: int | list[int] = 1, padding: str | int | list[int] = 0,
    dilation: int | list[int] = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    if isinstance(padding, str):  # rare: torch's own
        return torch.nn.functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
    cast = [x if x is None else x.to(torch.bfloat16) for x in (input, weight, bias)]
    shape = [[x, x] if isinstance(x, int) else list(x) for x in (stride, padding, dilation)]
    result: Tensor = _Convolution.apply(*cast, *shape, groups)
    return result


class _Convolution(torch.autograd.Function):
    """A convolution of bfloat16 tensors in fp32 arithmetic."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None,
        stride: list[int], padding: list[int], dilation: list[int], groups: int,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight)
        ctx.bias = None if bias is None else list(bias.shape)
        ctx.rest = (stride, padding, dilation, False, [0, 0], groups)
        with torch.autocast(x.device.type, enabled=False):
            wide = None if bias is None else bias.float()
            return torch.convolution(x.float(), weight.float(), wide, *ctx.rest).bfloat16()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            upstream.float(), x.float(), weight.float(), ctx.bias, *ctx.rest,
            list(ctx.needs_input_grad[:3]),
        )  # fmt: skip
        return (*(y if y is None else y.bfloat16() for y in found), None, None, None, None)


__all__ = ["RoundedConvolutions", "autocast", "emulates_bf16", "multiplies_bf16", "resolve"]
