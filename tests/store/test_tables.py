"""What the dashboard reads of many trials at once: the same on both databases."""

import math

import pytest

from service import operations
from service.domain.records import MetricReport
from service.operations import Write
from service.store import Store, queries
from service.store.queries import Curve, LastEvent
from tests.operations.driving import claim_one, claim_trials, finish, ready, report, searches_of, study_of, tell


def test_rows_of_a_table_come_in_the_order_of_their_last_events(store: Store) -> None:
    study = ready(store)
    first, second = (claim_one(store, searches_of()) for _ in range(2))
    seen = study_of(store, study).seq
    result = {"reuse": {"lanes": 4}, "pace": {"saved_seconds": 8.0, "samples_per_second": 100.0}}
    tell(store, second.lease, reports=[report(1, 0.25), MetricReport(2, {"loss": math.inf})], result=result)
    finish(store, first, 0.75)
    rows = store.read(queries.table_rows, study.id, seen, 10)
    assert [(row.number, row.state, row.value, row.step) for row in rows] == [(1, "running", None, 2), (0, "complete", 0.75, 3)]
    assert rows[0].metrics == {"accuracy": 0.25, "loss": "pos_inf"} and rows[0].params == dict(second.params)
    assert (rows[0].spared_seconds, rows[0].samples_per_second) == (2.0, 100.0)
    assert (rows[1].spared_seconds, rows[1].samples_per_second) == (None, None)
    assert store.read(queries.table_rows, study.id, seen, 1) == rows[:1]
    assert store.read(queries.table_rows, study.id, rows[1].changed, 10) == []


def test_a_duplicate_was_spared_its_originals_training(store: Store) -> None:
    searches = searches_of(choices=1)
    study = ready(store)
    original = claim_one(store, searches)
    tell(store, original.lease, result={"reuse": {"lanes": 2}})
    finish(store, original)
    claim_trials(store, searches)
    rows = [row for row in store.read(queries.table_rows, study.id, 0, 100) if row.duplicate_of == 0]
    saved = store.read(queries.saved_seconds, [study.id])[study.id]
    assert rows and {row.spared_seconds for row in rows} == {0.5}
    assert sum(row.spared_seconds or 0.0 for row in rows) == pytest.approx(saved.duplicates_seconds)


def test_curves_hold_the_finite_values_of_one_metric_by_step(store: Store) -> None:
    study = ready(store)
    claims = [claim_one(store, searches_of()) for _ in range(3)]
    tell(
        store,
        claims[1].lease,
        reports=[report(2, 0.5), report(1, 0.25), report(10, 1.0), MetricReport(3, {"accuracy": math.nan, "loss": 1.0})],
    )
    tell(store, claims[0].lease, reports=[report(1, 0.125)])
    moved = store.read(queries.changed_trials, study.id, 0)
    assert [one.number for one in moved] == [2, 1, 0]
    ids = {one.number: one.id for one in moved}
    with store.reading() as tx:
        assert list(queries.curves(tx, [*ids.values()], "accuracy")) == [
            Curve(ids[0], (1,), (0.125,)),
            Curve(ids[1], (1, 2, 10), (0.25, 0.5, 1.0)),
        ]
        assert list(queries.curves(tx, [ids[2]], "accuracy")) == []
    assert store.read(queries.metric_names, study.id) == {"accuracy", "loss"}
    assert [one.number for one in store.read(queries.changed_trials, study.id, moved[1].changed)] == [0]


def test_last_events_leave_out_studies_that_do_not_exist(store: Store) -> None:
    one, other, gone = (ready(store, name=name) for name in ("one", "other", "gone"))
    operations.stop_study(store, other.id)
    operations.delete_study(store, gone.id)
    assert store.read(queries.last_events, [one.id, other.id, gone.id]) == {
        one.id: LastEvent(study_of(store, one).seq, ended=False),
        other.id: LastEvent(study_of(store, other).seq, ended=True),
    }
    assert store.read(queries.last_events, []) == {}


def test_a_write_moves_the_last_event(store: Store) -> None:
    study = ready(store)
    before = store.read(queries.last_events, [study.id])[study.id]
    claim = claim_one(store, searches_of())
    assert operations.record(store, [Write(claim.lease, reports=[report(1, 0.5)])]) == []
    assert store.read(queries.last_events, [study.id])[study.id].seq == before.seq + 2
