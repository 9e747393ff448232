"""The libraries of the examples, which are an extra of their own."""

import os
from importlib.util import find_spec

import pytest

from tests.conftest import SKIP_NOTHING

LIBRARIES = ("tensorflow", "keras", "jax", "lightning", "ignite", "transformers", "nbclient", "ipykernel")


@pytest.fixture(scope="session")
def libraries() -> None:
    """Skips without the libraries; fails where nothing may be skipped."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing and not os.environ.get(SKIP_NOTHING):
        pytest.skip(f"needs thawline[examples]; {', '.join(missing)} is missing")
    assert not missing, f"{', '.join(missing)} is missing"
