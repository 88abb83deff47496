"""TensorBoard's files hold what the epochs measured, each once."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from wcordbench.errors import UserError
from wcordbench.reporting.tensorboard import TensorBoard


def epoch(number: int) -> dict[str, Any]:
    return {
        "kind": "epoch", "run": "r", "epoch": number, "epochs": 3, "first_epochs": 1,
        "train_loss": 2.0 - number, "train_top1": 10.0, "learning_rate": 0.1, "seconds": 1.0,
        **({"test_top1": 20.0 + number, "test_loss": 1.5} if number >= 0 else {}),
    }  # fmt: skip


def test_epochs_are_read_back_across_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for numbers in ((-1, 0), (1, 2)):  # stopped in between
        board = TensorBoard(tmp_path / "logs")
        board({"kind": "step", "runs": ["r"]})
        for number in numbers:
            board(epoch(number))
        board.close()
    read = EventAccumulator(str(tmp_path / "logs" / "r"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("top1/test")] == [(1, 20), (2, 21), (3, 22)]
    assert [e.step for e in read.Scalars("loss/train")] == [0, 1, 2, 3]


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'wcordbench\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--tensorboard .* cannot be made"):
        TensorBoard(tmp_path / "file" / "logs")
