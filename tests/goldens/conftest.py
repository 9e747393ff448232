"""The golden files of this folder."""

from collections.abc import Callable

import pytest

from tests.goldens.golden import Goldens


@pytest.fixture
def goldens(record_property: Callable[[str, object], None]) -> Goldens:
    """Compares with golden files. What it reports stands in pytest's summary."""
    return Goldens(lambda text: record_property("golden", text))
