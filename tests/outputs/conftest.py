"""A laboratory on each database, and a follower whose retries are fast."""

import pytest

from service.outputs import following
from service.store import Store
from tests.web.laboratory import Laboratory


@pytest.fixture
def lab(store: Store) -> Laboratory:
    return Laboratory(store)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(following, "RETRY", (0.02, 0.1))
