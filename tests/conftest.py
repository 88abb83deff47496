"""What every test starts from."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from wcordbench import registry


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache folder is left alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    """A suite's plugins are known to the whole process: forget them after each test."""
    yield
    if registry.plugins():
        registry.forget_plugins()
        models = sys.modules.get("wcordbench.models")
        if models is not None:  # shapes are kept by name
            models.feature_shapes.cache_clear()
            models.outline.cache_clear()
            models.macs.cache_clear()
