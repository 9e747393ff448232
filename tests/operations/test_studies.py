"""The life of a study, and of the trials that people queue and cancel."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from service import operations
from service.domain.errors import (
    BudgetSpent,
    IdempotencyConflict,
    NameTaken,
    StudyClosed,
    StudyNotFound,
    TrialClosed,
    TrialNotFound,
)
from service.domain.records import Study
from service.domain.states import StudyState, TrialState
from service.operations import Idempotency, Replay, Searches
from service.store import Store, queries
from tests.narrowed import trained, training
from tests.operations.driving import (
    FACTS,
    claim_one,
    claim_trials,
    finish,
    finished,
    kinds_of,
    lose,
    ready,
    spec_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from trainer.tasks.images.config import ImageModel


def keyed(key: str, request: str) -> Idempotency:
    sha256 = hashlib.sha256(request.encode()).hexdigest()
    return Idempotency(key, sha256, lambda _tx, result: f"answer {getattr(result, 'number', 'study')}")


def test_a_new_study_is_found_by_id_and_name(store: Store) -> None:
    spec = spec_of(name="Größe 1 %")
    study = operations.create_study(store, spec)
    assert study.spec == spec
    assert store.read(queries.find_study, study.id) == store.read(queries.find_study, "Größe 1 %") == study
    assert (study.state, study.created, study.facts) == (StudyState.ACTIVE, 0, None)


def test_a_study_that_version_0_1_stored_without_weights_keeps_random_values(store: Store) -> None:
    study = operations.create_study(store, spec_of(model={"name": "resnet18", "weights": "DEFAULT"}))
    with store.writing() as tx:
        spec = json.loads(tx.execute(text("SELECT spec FROM study")).scalar_one())
        spec["model"] = {"name": "resnet18", "weights": None, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
        spec["fixed"]["frozen_layers"] = 3
        tx.execute(text("UPDATE study SET spec = :spec"), {"spec": json.dumps(spec)})
    found = store.read(queries.find_study, study.id)
    assert training(found.spec).model == ImageModel(name="resnet18", weights="random", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    operations.pass_check(store, study.id, FACTS)
    claim = claim_one(store, Searches())
    config = claim.spec.config_for(claim.params, claim.lease.number)
    assert not trained(config).model.pretrained and trained(config).frozen_layers == 3


@pytest.mark.parametrize("ref", ["", "pets2", "0" * 16, "\0", "\ud800", "x" * 100_000])
def test_a_study_that_is_not_there_is_not_found(store: Store, study: Study, ref: str) -> None:
    with pytest.raises(StudyNotFound):
        store.read(queries.find_study, ref)
    with pytest.raises(StudyNotFound):
        operations.pause_study(store, ref)


def test_a_baseline_is_trial_zero_and_waits(store: Store) -> None:
    study = operations.create_study(store, spec_of(baseline={"lr": 0.5}))
    (trial,) = trials_of(store, study)
    assert (trial.number, trial.state, trial.params, trial.source) == (0, TrialState.QUEUED, {"lr": 0.5}, "baseline")
    assert kinds_of(store, study) == ["study_created", "trial_queued"]


def test_a_name_is_taken_once_however_many_ask_at_once(store: Store) -> None:
    def create(_: int) -> str:
        try:
            return operations.create_study(store, spec_of()).id
        except NameTaken:
            return "taken"

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(create, range(6)))
    assert answers.count("taken") == 5
    assert len(store.read(queries.studies)) == 1


def test_a_request_with_the_same_key_has_one_effect_and_replays_its_answer(store: Store) -> None:
    operations.create_study(store, spec_of(), keyed("k", "body"))
    with pytest.raises(Replay) as replay:
        operations.create_study(store, spec_of(), keyed("k", "body"))
    assert replay.value.answer == "answer study"
    with pytest.raises(IdempotencyConflict):
        operations.create_study(store, spec_of(name="other"), keyed("k", "other body"))
    assert [study.name for study in store.read(queries.studies)] == ["pets"]


def test_concurrent_requests_with_one_key_queue_one_trial(store: Store, study: Study) -> None:
    def queue(_: int) -> str:
        try:
            return f"queued {operations.queue_trial(store, study.id, {'lr': 0.5}, keyed('k', 'body')).number}"
        except Replay as replay:
            return replay.answer

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(queue, range(6)))
    assert answers == ["answer 0"] * 5 + ["queued 0"]
    assert len(trials_of(store, study)) == 1


def test_concurrent_requests_with_one_key_create_one_study_and_none_is_told_that_the_name_is_taken(store: Store) -> None:
    def create(_: int) -> str:
        try:
            return operations.create_study(store, spec_of(), keyed("k", "body")).name
        except Replay as replay:
            return replay.answer

    with ThreadPoolExecutor(6) as pool:
        answers = sorted(pool.map(create, range(6)))
    assert answers == ["answer study"] * 5 + ["pets"]
    assert len(store.read(queries.studies)) == 1


def test_a_refused_request_leaves_its_key_free(store: Store, study: Study) -> None:
    with pytest.raises(StudyNotFound):
        operations.queue_trial(store, "nobody", {"lr": 0.5}, keyed("k", "body"))
    assert operations.queue_trial(store, study.id, {"lr": 0.5}, keyed("k", "body")).number == 0


def test_a_paused_study_starts_nothing_but_what_runs_may_end(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    assert operations.pause_study(store, study.name).state is StudyState.PAUSED
    assert claim_trials(store, searches) == []
    finish(store, claim)
    assert operations.resume_study(store, study.id).state is StudyState.ACTIVE
    assert claim_one(store, searches).lease.number == 1


@pytest.mark.parametrize("budget", [{"trials": 1}, {"trials": 9, "hours": 1.0}], ids=["trials", "hours"])
def test_a_trial_that_is_lost_when_the_budget_is_spent_and_the_study_paused_is_run_to_its_end(
    store: Store, searches: Searches, budget: dict[str, Any]
) -> None:
    study = ready(store, budget=budget)
    first = claim_one(store, searches)
    operations.pause_study(store, study.id)
    with store.writing() as tx:
        tx.execute(text("UPDATE study SET started_at = started_at - 3600"))
    lose(store, first)
    assert claim_trials(store, searches) == []
    operations.resume_study(store, study.id)
    second = claim_one(store, searches)
    assert (second.lease.number, second.lease.attempt) == (0, 2)
    assert claim_trials(store, searches) == []
    assert study_of(store, study).state is StudyState.ACTIVE
    finish(store, second)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_what_is_so_already_needs_no_event(store: Store, study: Study) -> None:
    for turn in (operations.pause_study, operations.resume_study, operations.stop_study):
        assert turn(store, study.id) == turn(store, study.id)
    operations.pass_check(store, study.id, FACTS)
    assert kinds_of(store, study) == ["study_created", "study_checked", "study_paused", "study_resumed", "study_stopped"]


def test_the_first_facts_stay(store: Store, study: Study) -> None:
    other = FACTS.model_copy(update={"fingerprint": "0" * 64})
    assert operations.pass_check(store, study.id, other).facts == FACTS


@pytest.mark.parametrize(
    ("close", "state"),
    [(operations.stop_study, StudyState.STOPPED), (lambda store, study: operations.fail_study(store, study, "no data"), StudyState.FAILED)],
    ids=["stop", "fail"],
)
def test_closing_a_study_takes_what_is_open_from_its_workers(
    store: Store, study: Study, searches: Searches, close: Callable[[Store, str], Study], state: StudyState
) -> None:
    done, running = claim_trials(store, searches, limit=2)
    operations.queue_trial(store, study.id, {"lr": 0.5})
    finish(store, done)
    assert close(store, study.id).state is state
    left = TrialState.CANCELLED if state is StudyState.STOPPED else TrialState.QUEUED
    assert [trial.state for trial in trials_of(store, study)] == [TrialState.COMPLETE, left, left]
    assert operations.heartbeat(store, "w", [running.lease]) == [running.lease]
    assert not tell(store, running.lease, outcome=finished(0.9))
    with pytest.raises(StudyClosed):
        operations.pause_study(store, study.id)
    assert claim_trials(store, searches) == []
    with pytest.raises(StudyClosed):
        operations.queue_trial(store, study.id, {"lr": 0.5})
    assert operations.fail_study(store, study.id, "too late").state is state


def test_a_deleted_study_leaves_nothing(store: Store, study: Study, searches: Searches) -> None:
    finish(store, claim_one(store, searches))
    operations.delete_study(store, study.name)
    with pytest.raises(StudyNotFound):
        study_of(store, study)
    assert store.read(queries.events_after, study.id, 0) == []
    assert trials_of(store, study) == []
    assert ready(store).name == study.name


def test_a_cancelled_trial_ends_and_its_worker_learns_of_it(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    assert operations.cancel_trial(store, study.id, 0).state is TrialState.CANCELLED
    assert operations.heartbeat(store, "w", [claim.lease]) == [claim.lease]
    with pytest.raises(TrialClosed):
        operations.cancel_trial(store, study.id, 0)
    for number in (1, -1, 10**30):
        with pytest.raises(TrialNotFound):
            operations.cancel_trial(store, study.id, number)
        with pytest.raises(TrialNotFound):
            trial_of(store, study, number)


def test_a_queued_trial_counts_in_the_budget(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 2})
    claim_one(store, searches)
    assert operations.queue_trial(store, study.id, {"lr": 0.5}).number == 1
    with pytest.raises(BudgetSpent):
        operations.queue_trial(store, study.id, {"lr": 0.6})


def test_cancelling_the_last_open_trial_of_a_spent_budget_completes_the_study(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1})
    claim_one(store, searches)
    operations.cancel_trial(store, study.id, 0)
    assert study_of(store, study).state is StudyState.COMPLETE
