"""Fixtures of stored outputs."""

from pathlib import Path

import pytest

from trainer.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache with room for everything."""
    return Cache(tmp_path / "cache", 10**9)
