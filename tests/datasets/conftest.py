"""Fixtures of all tests of data sets."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty at first, outside of `tmp_path`, where data sets lie."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ICM_BENCH_CACHE", str(cache))
    return cache
