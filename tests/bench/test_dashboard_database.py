"""The database of the dashboard's benchmark holds what workers would have left, and a search can go on from it."""

import math
from pathlib import Path

import optuna

from bench.dashboard import database, optunas
from service import operations
from service.domain.states import AttemptEnd, TrialState
from service.store import Store, queries
from tests.web.laboratory import Laboratory

TRIALS, STEPS, METRICS = 60, 20, 3


def test_rows_are_those_of_a_search_that_goes_on(store: Store) -> None:
    study = store.read(queries.find_study, database.make(database_url(store), TRIALS, STEPS, METRICS))
    trials = store.read(queries.trials, study.id, limit=1_000)
    assert len(trials) == TRIALS == study.created and {one.state for one in trials} >= {TrialState.COMPLETE, TrialState.PRUNED}
    assert max(one.changed for one in trials) == study.seq and len({one.changed for one in trials}) == TRIALS
    for one in trials:
        assert list(study.spec.search_space.faults_of(one.params)) == []
        rows = store.read(queries.metrics, one.id)
        assert len(rows) == one.step * METRICS
        last = {row.name: row.value for row in rows if row.step == one.step}
        assert all(math.isnan(value) == math.isnan(last[name]) for name, value in one.metrics.items())
        assert one.value is None or one.value == last["accuracy"]
        assert [attempt.ending for attempt in store.read(queries.attempts, one.id)] == [AttemptEnd(one.state)]
    lab = Laboratory(store)
    claim = lab.claim()
    assert claim.lease.number == TRIALS
    lab.finish(claim, 0.5)
    operations.stop_study(store, study.id)


def database_url(store: Store) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def test_optunas_database_holds_the_same_trials(tmp_path: Path, embedded_store: Store) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    optunas.make(url, TRIALS, STEPS, METRICS)
    theirs = optuna.load_study(study_name="dashboard", storage=url).trials
    study = embedded_store.read(queries.find_study, database.make(database_url(embedded_store), TRIALS, STEPS, METRICS))
    ours = embedded_store.read(queries.trials, study.id, limit=1_000)
    assert [dict(one.params) for one in ours] == [one.params for one in theirs]
    assert [one.step for one in ours] == [len(one.intermediate_values) for one in theirs]
    assert [one.value for one in ours if one.state is TrialState.COMPLETE] == [one.value for one in theirs if one.state.name == "COMPLETE"]
