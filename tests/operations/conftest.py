"""Fixtures of a store with one study."""

import pytest

from service.domain.records import Study
from service.operations import Searches
from service.store import Store
from tests.operations.driving import ready, searches_of


@pytest.fixture
def searches() -> Searches:
    """The search memories of one process."""
    return searches_of()


@pytest.fixture
def study(store: Store) -> Study:
    """A checked study with a budget of 20 trials."""
    return ready(store)
