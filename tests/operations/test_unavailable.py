"""What workers say of studies whose data or weights they cannot read."""

import time

import pytest

from service import operations
from service.domain.errors import StudyNotFound
from service.domain.records import Study, Worker
from service.operations import Searches, claim_together
from service.store import Store, queries
from tests.operations.driving import ready


def register(store: Store, name: str, seconds_ago: float = 0.0, state: str = "alive") -> None:
    seen = time.time() - seconds_ago
    one = Worker(id=name, host="box", pid=1, slots=1, devices=("cpu",), state=state, started_at=seen, seen_at=seen)
    operations.register_worker(store, one)


def kinds(store: Store, study: Study) -> list[str]:
    return [event.kind for event in store.read(queries.events_after, study.id, 0, 1_000)]


def test_it_is_told_once_until_it_changes_and_is_over_at_once(store: Store, study: Study) -> None:
    register(store, "blind")
    before = len(kinds(store, study))
    for detail in ("no folder", "no folder", "no right to read it"):
        assert operations.report_unavailable(store, "blind", study.id, "data", detail)
    (found,) = store.read(queries.unavailabilities)
    assert (found.name, found.worker, found.host, found.what, found.detail) == (study.name, "blind", "box", "data", "no right to read it")
    for _ in range(2):
        assert operations.report_available(store, "blind", study.id)
    assert kinds(store, study)[before:] == ["study_unavailable", "study_unavailable", "study_available"]
    assert store.read(queries.unavailabilities) == []


def test_of_workers_that_have_gone_or_are_silent_nothing_is_shown(store: Store, study: Study) -> None:
    for name, options in (("alive", {}), ("silent", {"seconds_ago": 300.0}), ("draining", {"state": "draining"}), ("left", {})):
        register(store, name, **options)
        operations.report_unavailable(store, name, study.id, "weights", "no such file")
    operations.retire_worker(store, "left")
    assert [one.worker for one in store.read(queries.unavailabilities, [study.id])] == ["alive"]
    assert store.read(queries.unavailabilities, ["another"]) == [] and store.read(queries.count_live) == 1


def test_a_study_that_has_ended_takes_none(store: Store, study: Study) -> None:
    register(store, "blind")
    operations.report_unavailable(store, "blind", study.id, "data", "no folder")
    operations.stop_study(store, study.id)
    seen = kinds(store, study)
    assert not operations.report_unavailable(store, "blind", study.id, "data", "no folder")
    assert not operations.report_available(store, "blind", study.id)
    assert kinds(store, study) == seen and store.read(queries.unavailabilities) == []
    operations.delete_study(store, study.id)
    with pytest.raises(StudyNotFound):
        operations.report_unavailable(store, "blind", study.id, "data", "no folder")


def test_it_goes_with_the_study(store: Store, study: Study) -> None:
    register(store, "blind")
    operations.report_unavailable(store, "blind", study.id, "data", "no folder")
    operations.delete_study(store, study.id)
    assert store.read(queries.unavailabilities) == []


def test_nothing_is_claimed_of_studies_that_are_left_alone(store: Store, study: Study, searches: Searches) -> None:
    other = ready(store, name="other")
    unchecked = operations.create_study(store, study.spec.model_copy(update={"name": "unchecked"}))
    assert [claim.lease.study for claim in claim_together(store, searches, "w", 0, lambda one: one.id != study.id)] == [other.id]
    assert claim_together(store, searches, "w", 0, lambda one: one.id not in (study.id, other.id)) == []
    assert store.read(queries.unchecked_study, lambda one: one.id != unchecked.id) is None
    assert [claim.lease.study for claim in claim_together(store, searches, "w", 0)] == [study.id]
