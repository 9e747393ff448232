"""Pages, the best trial and the workers, the same on both databases."""

import math
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import operations
from service.domain.errors import StudyNotFound, TrialNotFound
from service.domain.records import Worker
from service.domain.states import StudyState, TrialState
from service.operations import Write
from service.store import Store, queries, rows
from tests.operations.driving import BROKEN, claim_one, claim_trials, finish, finished, ready, searches_of, spec_of, tell

VALUES = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.5, 0.5]), st.floats(allow_nan=False, width=64))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(VALUES, min_size=1, max_size=8), better=st.sampled_from(["maximize", "minimize"]))
def test_the_best_trial_is_the_first_with_the_best_finite_value(store: Store, values: list[float], better: str) -> None:
    metric = "accuracy" if better == "maximize" else "loss"
    study = ready(store, objective={"metric": metric, "direction": better})
    claims = claim_trials(store, searches_of(), limit=len(values))
    outcomes = [finished(0.0).model_copy(update={"metrics": {metric: value}}) for value in values]
    operations.record(store, [Write(claim.lease, outcome=outcome) for claim, outcome in zip(claims, outcomes, strict=True)])
    best = store.read(queries.best_trial, study)
    operations.delete_study(store, study.id)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        assert best is None
    else:
        expected = max(finite) if better == "maximize" else min(finite)
        assert best is not None
        assert (best.value, best.number) == (expected, values.index(expected))


def test_only_complete_trials_can_be_the_best(store: Store) -> None:
    study = ready(store)
    pruned, broken, complete = claim_trials(store, searches_of(), limit=3)
    assert tell(store, pruned.lease, outcome=operations.Pruned("why"))
    assert tell(store, broken.lease, outcome=BROKEN)
    assert store.read(queries.best_trial, study) is None
    finish(store, complete, 0.1)
    best = store.read(queries.best_trial, study)
    assert best is not None
    assert best.number == 2


@pytest.mark.parametrize("sort", get_args(queries.TrialSort))
def test_pages_hold_every_trial_once_in_the_order_asked_for(store: Store, sort: queries.TrialSort) -> None:
    study, searches = ready(store), searches_of()
    for number, value in enumerate([0.5, 0.2, math.nan, 0.5, 0.9]):
        claim = claim_one(store, searches)
        assert tell(store, claim.lease, outcome=finished(value, step=number % 3 + 1))
    claim_one(store, searches)
    operations.queue_trial(store, study.id, {"lr": 0.5})
    paged, after = [], None
    while page := store.read(queries.trials, study.id, sort=sort, limit=2, after=after):
        paged += page
        after = page[-1].number
    assert sorted(trial.number for trial in paged) == list(range(7))
    column = sort.removeprefix("-")
    keys = [getattr(trial, column) for trial in paged]
    known = [key for key in keys if key is not None]
    assert keys == known + [None] * (len(keys) - len(known))
    assert known == sorted(known, reverse=sort.startswith("-"))
    assert all(a.number < b.number for a, b in pairwise(paged) if getattr(a, column) == getattr(b, column))


def test_a_page_may_be_of_some_states_only(store: Store) -> None:
    study = ready(store)
    for claim in claim_trials(store, searches_of(), limit=4)[:2]:
        finish(store, claim)
    page = store.read(queries.trials, study.id, states=[TrialState.COMPLETE], sort="-number", limit=10)
    assert [trial.number for trial in page] == [1, 0]
    with pytest.raises(TrialNotFound):
        store.read(queries.trials, study.id, after=99)


def test_studies_come_in_pages_newest_first(store: Store) -> None:
    for name in "abcde":
        operations.create_study(store, spec_of(name=name))
    first = store.read(queries.studies, limit=2)
    rest = store.read(queries.studies, limit=9, after=first[-1].id)
    assert "".join(study.name for study in [*first, *rest]) == "edcba"
    with pytest.raises(StudyNotFound):
        store.read(queries.studies, after="nobody")


def test_trials_are_counted_by_state(store: Store) -> None:
    busy, idle = ready(store, name="busy"), ready(store, name="idle")
    first, _, _ = claim_trials(store, searches_of(), limit=3, without={idle.id})
    finish(store, first)
    counts = store.read(queries.counts, [busy.id, idle.id])
    assert counts[busy.id] == dict.fromkeys(TrialState, 0) | {TrialState.COMPLETE: 1, TrialState.RUNNING: 2}
    assert set(counts[idle.id].values()) == {0}


def test_trials_and_studies_are_counted_over_all_studies(store: Store) -> None:
    ready(store, name="busy"), ready(store, name="idle")
    finish(store, claim_one(store, searches_of()))
    claim_one(store, searches_of())
    studies, trials = store.read(queries.totals)
    assert studies == dict.fromkeys(StudyState, 0) | {StudyState.ACTIVE: 2}
    assert trials == dict.fromkeys(TrialState, 0) | {TrialState.COMPLETE: 1, TrialState.RUNNING: 1}


def test_the_best_trials_of_many_studies_are_each_the_best_of_its_own(store: Store) -> None:
    better = {"accuracy": "maximize", "loss": "minimize"}
    searches = searches_of()
    studies = [
        ready(store, name=f"{metric}-{offset}", objective={"metric": metric, "direction": direction}, budget={"trials": 3})
        for metric, direction in better.items()
        for offset in (0, 1)
    ]
    claims = claim_trials(store, searches, limit=9, without={studies[3].id})
    for claim in claims:
        outcome = finished(0.0).model_copy(update={"metrics": dict.fromkeys(better, claim.lease.number / 4)})
        assert tell(store, claim.lease, outcome=outcome)
    best = store.read(queries.best_trials, studies)
    assert [best[study.id].number for study in studies[:3]] == [2, 2, 0]
    assert studies[3].id not in best
    records = store.read(queries.running_best, studies)
    assert [len(records.get(study.id, ())) for study in studies] == [3, 3, 1, 0]
    assert records[studies[0].id][-1] == (2, 0.5)
    since = store.read(queries.completed_since, {studies[0].id: 0, studies[1].id: 10**6})
    assert {key: sorted(found) for key, found in since.items()} == {studies[0].id: [(0, 0.0), (1, 0.25), (2, 0.5)]}


def test_a_worker_is_known_until_it_leaves_and_after(store: Store) -> None:
    one = Worker(id="w", host="h", pid=1, slots=2, devices=("cpu",), state="alive", started_at=1.0, seen_at=1.0, memory=(2**34, None))
    operations.register_worker(store, one)
    operations.register_worker(store, one)
    assert store.read(queries.workers) == [one]
    assert not store.read(queries.is_draining, "w") and not store.read(queries.is_draining, "nobody")
    operations.heartbeat(store, "w", [])
    assert store.read(queries.workers)[0].seen_at > 1.0
    assert operations.drain_worker(store, "w").state == "draining"
    operations.heartbeat(store, "w", [])
    assert store.read(queries.is_draining, "w")
    operations.retire_worker(store, "w")
    assert operations.drain_worker(store, "w").state == "gone"
    assert [worker.state for worker in store.read(queries.workers)] == ["gone"]


def test_lists_lack_facts_and_what_is_large_in_results_and_single_answers_have_them(store: Store) -> None:
    study = ready(store)
    claim = claim_one(store, searches_of())
    # texts that PostgreSQL's jsonb would refuse, were a result read by way of it
    result = {"environment": {"odd": "\u2028 \U0001f600 1e400"}, "per_class_recall": {"a": 0.5}, "test": {"confusion_matrix": [[1]]}}
    operations.record(store, [Write(claim.lease, result=result)])
    operations.record(store, [Write(claim.lease, outcome=finished(0.5))])
    with store.reading() as tx:
        (listed,) = queries.studies(tx)
        pages = [
            queries.trials(tx, study.id),
            queries.trials_changed_after(tx, study.id, 0),
            list(queries.best_trials(tx, [study]).values()),
            queries.changed_since(tx, study.id, 0).trials,
        ]
        whole, best = queries.find_trial(tx, study.id, 0), queries.best_trial(tx, study)
    assert listed.facts is None and listed.checked and store.read(queries.find_study, study.id).facts is not None
    assert best == whole and {"confusion_matrix", "per_class_recall", "environment"} <= whole.result.keys()
    for page in pages:
        assert [trial.result for trial in page] == [
            {name: value for name, value in whole.result.items() if name not in ("confusion_matrix", "per_class_recall", "test")}
        ]


def test_what_was_parsed_is_kept_by_study_and_within_a_bound_of_characters() -> None:
    parsed = list[str]()

    def parse(study: str, text: str) -> str:
        parsed.append(study)
        return text.upper()

    kept = rows._DocumentCache(parse, max_characters=10)
    assert [kept.get("a", "x" * 4), kept.get("a", "x" * 4), kept.get("a", "y" * 4)] == ["XXXX", "XXXX", "YYYY"]
    assert parsed == ["a", "a"] and kept.characters == 4  # a changed text replaces the one before
    kept.get("b", "z" * 9)
    assert kept.characters == 9
    kept.get("c", "w" * 11)
    assert kept.characters == 0
