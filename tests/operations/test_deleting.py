"""A large study is deleted for everybody at once, and its rows are removed in many short transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import func, select

from service import operations
from service.domain.errors import StudyNotFound
from service.domain.records import Lease, Study
from service.store import Store, queries, registry
from service.store.schema import event, log, metric, study, trial, unavailable
from tests.operations.driving import (
    claim_one,
    claim_trials,
    finish,
    finished,
    ready,
    report,
    searches_of,
    sweep_all,
    tell,
    trials_of,
)

TABLES = (study, trial, metric, event, log, unavailable)
REPORTS = 6
BOUND = 4  # rows of a transaction


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REMOVED_ROWS", "REMOVED_LOGS"):
        monkeypatch.setattr(registry, name, BOUND)
    monkeypatch.setattr(registry, "REMOVED_TRIALS", 2)


def large(store: Store) -> tuple[Study, Lease]:
    """A study of three trials with reports and logs, of which the last one runs; and its lease."""
    one, searches = ready(store, name="large", budget={"trials": 5}), searches_of()
    for _ in range(2):
        claim = claim_one(store, searches)
        assert tell(store, claim.lease, reports=[report(step, 0.5) for step in range(1, REPORTS + 1)], log="epoch\n")
        finish(store, claim)
    running = claim_one(store, searches)
    assert tell(store, running.lease, reports=[report(1, 0.5)], log="epoch\n")
    operations.report_unavailable(store, "blind", one.id, "data", "no folder")
    return one, running.lease


def rows(store: Store) -> dict[str, int]:
    """How many rows each table has."""
    with store.reading() as tx:
        return {table.name: tx.execute(select(func.count()).select_from(table)).scalar_one() for table in TABLES}


@contextmanager
def deletions(store: Store) -> Iterator[list[int]]:
    """How many rows each statement deletes."""
    found = list[int]()

    def note(_connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE"):
            found.append(cursor.rowcount)  # type: ignore[attr-defined]

    hooks.listen(store.engine, "after_cursor_execute", note)
    try:
        yield found
    finally:
        hooks.remove(store.engine, "after_cursor_execute", note)


def test_a_large_study_is_gone_at_once_and_its_rows_go_in_pieces(store: Store) -> None:
    one, _ = large(store)
    with deletions(store) as deleted:
        operations.delete_study(store, one.id)
        assert rows(store)["metric"] == 2 * REPORTS + 1, "the deletion itself removes no rows of a large study"
        sweep_all(store)
    assert max(deleted) <= BOUND and len(deleted) > 10
    assert rows(store) == dict.fromkeys((table.name for table in TABLES), 0)


def test_nobody_sees_a_deleted_study_whose_rows_are_still_there(store: Store) -> None:
    one, lease = large(store)
    operations.delete_study(store, "large")
    for ref in (one.id, "large", f"study {one.id} deleted"):
        with pytest.raises(StudyNotFound):
            store.read(queries.find_study, ref)
        with pytest.raises(StudyNotFound):
            operations.delete_study(store, ref)
    assert store.read(queries.studies) == [] and store.read(queries.count_studies) == 0
    assert store.read(queries.last_events, [one.id]) == {}, "its event streams end"
    assert not any(any(counted.values()) for counted in store.read(queries.totals))
    assert store.read(queries.unavailabilities) == [] and store.read(queries.running_leases) == []
    assert store.read(queries.unchecked_study) is None and claim_trials(store, searches_of()) == []
    again = ready(store, name="large")  # the name is free
    assert [found.id for found in store.read(queries.studies)] == [again.id]
    assert rows(store)["trial"] == 3 and lease.study == one.id


def test_the_leases_of_a_deleted_study_are_lost_and_its_results_are_unknown(store: Store) -> None:
    one, lease = large(store)
    operations.delete_study(store, one.id)
    assert operations.heartbeat(store, "w", [lease]) == [lease]
    assert not tell(store, lease, outcome=finished(0.9))
    assert "was deleted" in store.read(queries.unknown_leases, [lease])[lease], "so that the worker sets the result aside"


def test_trials_of_another_study_that_get_the_same_keys_are_left_alone(store: Store) -> None:
    """SQLite gives the keys of deleted rows again."""
    one, lease = large(store)
    operations.delete_study(store, one.id)
    for piece in count():
        fresh = ready(store, name=f"fresh-{piece}", budget={"trials": 1})
        claim = claim_one(store, searches_of())
        assert tell(store, claim.lease, reports=[report(1, 0.5)], log="epoch\n")
        more = operations.remove_hidden(store)
        assert not tell(store, lease, outcome=finished(0.9)) and operations.heartbeat(store, "w", [lease]) == [lease]
        assert operations.heartbeat(store, "w", [claim.lease]) == []
        finish(store, claim)
        (left,) = trials_of(store, fresh)
        assert (left.step, left.value) == (3, 0.5) and len(store.read(queries.metrics, left.id)) == 1
        if not more:
            break
    assert piece > 5 and rows(store)["study"] == rows(store)["trial"] == rows(store)["metric"] == piece + 1
