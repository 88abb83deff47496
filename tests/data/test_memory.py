"""How much memory a dataset may take: the user's word, the machine's, a device's."""

from __future__ import annotations

import pytest
import torch

from wcordbench.data import memory
from wcordbench.data.memory import GIB, allowed, allowing


def test_automatic_is_what_the_device_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in memory are copied to the device: a host's memory says nothing of a GPU's."""
    monkeypatch.setattr(memory, "free", lambda: 400 * GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (20 * GIB, 24 * GIB))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    cuda, cpu = torch.device("cuda:0"), torch.device("cpu")
    with allowing(None, device=cuda):
        assert allowed() == 10 * GIB
        with allowing(None):  # within it, as where a dataset is looked at on the way
            assert allowed() == 10 * GIB
    with allowing(None, device=cpu):
        assert allowed() == 200 * GIB
    with allowing(50, device=cuda):  # who gives a number knows why
        assert allowed() == 50 * GIB
    assert allowed() == 200 * GIB
