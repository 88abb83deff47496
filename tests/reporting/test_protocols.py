"""The page on protocols: its lines, its gaps, and that the committed page is what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wcordbench import registry
from wcordbench.reporting import protocols
from wcordbench.results.store import Store

ROOT = Path(__file__).parents[2]


class Folder:
    """A finished run of a store."""

    state = "done"

    def __init__(
        self, name: str, method: str, last: float, best: float, teacher: str | None = None
    ) -> None:
        source = {"model": "resnet56", "run": teacher} if teacher else None
        config = {
            "dataset": {"name": "cifar100"}, "train": {"epochs": 4}, "teacher": source,
            "method": {"name": method},
        }  # fmt: skip
        scores = {"top1": last, "best_top1": best}
        self.record = {"id": name, "config": config, "scores": scores}

    def result(self, best: bool = True) -> dict[str, Any]:
        assert best
        return self.record


class Folders:
    root = Path("results")

    def __init__(self, *folders: Folder) -> None:
        self._folders = folders

    def folders(self) -> tuple[Folder, ...]:
        return self._folders


def test_gaps_are_of_students_by_method_and_schedule() -> None:
    store: Any = Folders(
        Folder("teacher", "student", 70.0, 79.0),
        Folder("plain", "student", 60.0, 60.5),
        Folder("a", "kd", 61.0, 61.25, "teacher"),
        Folder("b", "kd", 61.0, 61.75, "teacher"),
    )
    assert protocols.gaps(store) == {
        "kd": {"cifar100, 4 epochs": [0.25, 0.75]}, "student": {"cifar100, 4 epochs": [0.5]},
    }  # fmt: skip
    text = protocols.page(store)
    assert "| `kd` | 0.50 ± 0.35 (2) |" in text
    assert "| all | 0.50 ± 0.25 (3) |" in text


def test_every_line_is_of_a_registered_method() -> None:
    lines = protocols.changes()
    names = [line["method"] for line in lines]
    assert len(names) == len(set(names))
    assert set(names) <= set(registry.catalogue("method"))
    assert all(line["rule"] in ("best", "last", "not stated") for line in lines)
    assert all(line["code"] for line in lines)


def test_the_committed_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """``wcordbench protocols > docs/protocols.md`` mends it."""
    monkeypatch.chdir(ROOT)
    committed = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert committed == protocols.page(Store(Path("results"))) + "\n"
