"""What studies were spared, what runs at present, and what has changed: the same on both databases."""

import pytest

from service import operations
from service.domain.records import Claim, Study
from service.operations import Searches, Write
from service.store import Store, queries
from service.store.queries import SavedSeconds, Throughput
from tests.operations.driving import claim_trials, finish, ready, searches_of, study_of


def tell(store: Store, claim: Claim, lanes: int, saved: float, speed: float = 100.0) -> None:
    result = {"reuse": {"lanes": lanes}, "pace": {"saved_seconds": saved, "samples_per_second": speed}}
    assert operations.record(store, [Write(claim.lease, result=result)]) == []


def begun(store: Store, name: str, trials: int, searches: Searches | None = None) -> tuple[Study, list[Claim]]:
    """A study with so many running trials."""
    study = ready(store, name=name, budget={"trials": 100})
    found = claim_trials(store, searches or searches_of(), limit=trials)
    assert len(found) == trials
    return study, found


def test_each_trial_of_a_pass_counts_for_its_share(store: Store) -> None:
    study, claims = begun(store, "one", 5)
    for claim in claims[:4]:
        tell(store, claim, lanes=4, saved=8.0)
    tell(store, claims[4], lanes=1, saved=-1.5)
    assert store.read(queries.saved_seconds, [study.id]) == {study.id: SavedSeconds(features_seconds=6.5)}
    assert store.read(queries.throughput) == Throughput(samples_per_second=200.0, lanes=4)


def test_without_a_word_of_it_nothing_was_spared_and_nothing_runs(store: Store) -> None:
    assert store.read(queries.saved_seconds) == {} and store.read(queries.throughput) == Throughput(0.0, 0)
    study, _ = begun(store, "silent", 2)
    assert store.read(queries.saved_seconds, [study.id]) == {} and store.read(queries.throughput) == Throughput(0.0, 0)


def test_an_answered_duplicate_spares_its_originals_share_of_the_training(store: Store) -> None:
    searches = searches_of(choices=1)
    study, (original,) = begun(store, "twice", 1, searches)
    tell(store, original, lanes=2, saved=0.0)
    finish(store, original)
    claim_trials(store, searches)
    answered = study_of(store, study).created - 1
    trained = store.read(queries.trials, study.id)[0].result["train_seconds"]
    assert answered > 0
    saved = store.read(queries.saved_seconds)[study.id]
    assert saved.duplicates_seconds == pytest.approx(answered * trained / 2)
    assert saved == SavedSeconds(duplicates_seconds=saved.duplicates_seconds)


def test_a_worker_is_told_with_what_it_runs(store: Store) -> None:
    _, claims = begun(store, "loaded", 3)
    finish(store, claims[1])
    assert store.read(queries.trials_by_worker) == {"w": [("loaded", 0), ("loaded", 2)]}


def test_changes_come_in_the_order_of_their_last_events(store: Store) -> None:
    study, claims = begun(store, "moving", 4)
    seen = study_of(store, study).seq
    for claim in (claims[2], claims[0], claims[2]):
        tell(store, claim, lanes=1, saved=0.0)
    changed = store.read(queries.trials_changed_after, study.id, seen)
    assert [trial.number for trial in changed] == [0, 2]
    assert [trial.number for trial in store.read(queries.trials_changed_after, study.id, seen, limit=1)] == [0]
    assert store.read(queries.trials_changed_after, study.id, study_of(store, study).seq) == []
