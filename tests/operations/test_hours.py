"""The hours of a study pass as a steady clock says, whatever happens to the time of day."""

import time
from collections.abc import Callable

import pytest

from service import operations, timing
from service.domain.errors import BudgetSpent
from service.operations import Searches
from service.store import Store
from tests.operations.driving import claim_one, claim_trials, ready

HOUR = 3_600.0


@pytest.fixture
def set_ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Corrects the wall clock by so many seconds."""
    true_time = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: true_time() + seconds)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, -time.time()], ids=["an hour on", "an hour back", "back to 1970"])
def test_a_clock_that_is_corrected_neither_ends_a_study_nor_starts_its_hours_anew(
    store: Store, searches: Searches, set_ahead: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    study = ready(store, budget={"hours": 0.5})
    first = claim_one(store, searches)
    set_ahead(seconds)
    second = claim_one(store, searches)
    assert (first.lease.number, second.lease.number) == (0, 1)
    passed = timing.steady()
    monkeypatch.setattr(timing, "_elapsed", lambda: passed + HOUR / 2 - timing._STARTED_AT)
    assert claim_trials(store, searches) == []
    with pytest.raises(BudgetSpent):
        operations.queue_trial(store, study.id, first.params)


def test_hours_that_begin_after_a_correction_last_as_long(store: Store, searches: Searches, set_ahead: Callable[[float], None]) -> None:
    set_ahead(-HOUR)
    ready(store, budget={"hours": 0.5})
    assert claim_trials(store, searches)
    assert claim_trials(store, searches), "they are over although they have just begun"
