"""Weights from files, those of the published CRD code included."""

from __future__ import annotations

import argparse
import codecs
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from wcordbench.data.notes import warn
from wcordbench.errors import UserError
from wcordbench.models.contents import AmbiguousError, find

_ADVICE = "give a checkpoint that holds a state_dict"


def load_checkpoint(
    model: nn.Module, path: str | Path, transfer: bool = False, whole: bool = True
) -> None:
    """Load a model's weights from a file; the model is unchanged if that fails.

    The file is what ``torch.save`` wrote of a state dict, or of dictionaries that hold one under
    any key (``model`` in the published CRD checkpoints), with any prefix before its names; or a
    ``.safetensors`` file. See :mod:`wcordbench.models.contents` for what is taken of several;
    a choice is told by :func:`wcordbench.data.notes.warn`. Files of timm's networks are taken
    with timm's names, those of a network inside of ``WithFeatures`` with its own. Code in the
    file is never run.

    Args:
        model: any network of :func:`wcordbench.models.create`.
        path: the file.
        transfer: the file may be for other classes, or for colour images where ours are not:
            the classifier then keeps its weights, and a timm model's first layer is fitted.
        whole: refuse a student that predicts by more than its network.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, holds other objects than
            weights, holds several networks' that could be meant, belongs to another
            architecture or number of classes, or has quantised, NaN or infinite weights.
    """
    path = Path(path)
    content = _read(path)
    if whole and isinstance(content, Mapping) and "prediction" in content:
        raise UserError(
            f"checkpoint {path} holds a student that predicts by more than its network: its method"
            " is a part of it; give the weights of another run"
        )
    state = _state_dict(path, content, model)
    if hasattr(model, "own_keys"):  # a network of another library
        state = cast(Any, model).own_keys(state, transfer)
    if transfer:
        state = _with_classifier_of(model, state)
    _check(model, state, path)
    model.load_state_dict(state)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(path.read_bytes())
        # The published code's last checkpoint of a run holds its options, a Namespace; many hold
        # an accuracy as a NumPy scalar.
        with torch.serialization.safe_globals([argparse.Namespace, *_numpy()]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"checkpoint {path.absolute()} does not exist; correct the path or download the file"
        ) from None
    except OSError as error:
        raise UserError(
            f"checkpoint {path} cannot be read ({error.strerror or error}); give a readable file"
        ) from None
    except pickle.UnpicklingError as error:
        # What PyTorch calls a global is a class or function that the file wants called.
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise UserError(
                f"checkpoint {path} holds Python objects ({refused[1]}) that are not loaded "
                "because they could run code; save its state_dict alone"
            ) from None
        raise _damaged(path) from None
    # Arbitrary bytes fail in arbitrary ways.
    except Exception:
        raise _damaged(path) from None


def _numpy() -> list[Any]:
    """What a NumPy scalar or array in a file is made by: nothing that does anything else."""
    arrays = np.arange(1).__reduce__()[0]  # NumPy has moved it between modules
    scalar = np.float64(1).__reduce__()[0]
    made: list[Any] = [np.ndarray, np.dtype, arrays, scalar, codecs.encode]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        made += [(arrays, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    made += [type(np.dtype(code)) for code in np.typecodes["All"]]
    return made


def _damaged(path: Path) -> UserError:
    return UserError(
        f"checkpoint {path} is damaged or not a PyTorch file; copy or download it again"
    )


def _state_dict(path: Path, content: Any, model: nn.Module) -> dict[str, Tensor]:
    try:
        found = find(content, model)
    except AmbiguousError as error:
        raise UserError(f"checkpoint {path} {error}") from None
    if found is None:
        kind = type(content).__name__
        what = f": it is of type {kind}" if not isinstance(content, Mapping) else ""
        raise UserError(f"checkpoint {path} holds no weights{what}; {_ADVICE}")
    if found.remark:
        warn(f"checkpoint {path}: {found.remark}")
    return found.state


def _check(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    # Checkpoints older than PyTorch 0.4.1 lack these counters, which nothing here reads.
    missing = [
        key for key in expected if key not in state and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        what = " and ".join(
            f"{text} {keys[0]}{f' and {len(keys) - 1} more' if len(keys) > 1 else ''}"
            for text, keys in (("lacks", missing), ("has the unknown", unexpected))
            if keys
        )
        raise UserError(
            f"checkpoint {path} is of another architecture ({what}); name the model that it was "
            "trained as"
        )
    last = _classifier_name(model)
    wrong = [key for key in state if state[key].shape != expected[key].shape]
    # A classifier of another width is only the number of classes if nothing else differs.
    if wrong and all(last and key.startswith(f"{last}.") for key in wrong):
        key = wrong[0]
        got, want = state[key].shape, expected[key].shape
        if got[1:] == want[1:]:
            raise UserError(
                f"checkpoint {path} has {got[0]} classes in {key}, the suite's dataset has "
                f"{want[0]}; give a checkpoint trained on that dataset, or give it as"
                " 'pretrained' to begin training with it"
            )
    if wrong:
        key = wrong[0]
        raise UserError(
            f"checkpoint {path} does not fit the model ({key} is {tuple(state[key].shape)}, not "
            f"{tuple(expected[key].shape)}); name the model and image channels of its training"
        )
    for key, value in state.items():
        if expected[key].is_floating_point() and not value.is_floating_point():
            raise UserError(
                f"checkpoint {path} has {str(value.dtype).removeprefix('torch.')} values in {key},"
                " as quantised networks have; give the network of before its quantisation"
            )
        if not torch.isfinite(value).all():
            raise UserError(
                f"checkpoint {path} has NaN or infinite values in {key}; its training diverged, "
                "so give another checkpoint"
            )


def _with_classifier_of(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with the model's own classifier where the state's is for other classes."""
    own = model.state_dict()
    last = f"{_classifier_name(model)}."
    keys = [key for key in own if key.startswith(last)]
    if any(key in state and state[key].shape != own[key].shape for key in keys):
        return {**state, **{key: own[key] for key in keys}}
    return state


def _classifier_name(model: nn.Module) -> str | None:
    if not hasattr(model, "get_classifier"):
        return None
    classifier = cast(Any, model).get_classifier()
    return next((name for name, module in model.named_modules() if module is classifier), None)
