"""Who gets which trial, under any concurrency."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service import operations
from service.domain.errors import LeaseLost
from service.domain.records import Study
from service.domain.states import EventKind, StudyState, TrialState
from service.operations import Released, Searches, Write
from service.operations.claiming import CachedSearch
from service.store import Store, queries
from service.store.unit_of_work import Step, locked
from tests.operations.driving import (
    FACTS,
    RandomSearch,
    checkpoint,
    claim_one,
    claim_trials,
    decide_one,
    drain,
    finish,
    kinds_of,
    lose,
    overtaken_searches,
    ready,
    report,
    searches_of,
    spec_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from tests.racing import race


def queue_many(store: Store, study: Study, count: int) -> None:
    with store.writing() as tx, locked(tx, study.id) as uow:
        uow.add([Step(uow.new_trial({"lr": i / count}, "user"), EventKind.TRIAL_QUEUED, {}) for i in range(count)])


def test_eight_processes_never_claim_the_same_queued_trial(store: Store, database_url: str) -> None:
    study = ready(store, budget={"trials": 200})
    queue_many(store, study, 200)
    claimed = [pair for pairs in race(drain, database_url, "w", processes=8) for pair in pairs]
    assert sorted(claimed) == [(number, 1) for number in range(200)]


def test_sixteen_threads_never_exceed_the_budget(store: Store) -> None:
    study = ready(store, budget={"trials": 20})
    at_once = threading.Barrier(16)

    def claim_some(worker: int) -> int:
        own = searches_of()  # as in a process of its own: the threads do not take turns at thinking
        at_once.wait()
        return sum(len(claim_trials(store, own, str(worker))) for _ in range(5))

    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(claim_some, range(16)))
    while claim_trials(store, searches_of(), "last"):
        counts.append(1)
    assert sum(counts) == 20
    assert [trial.number for trial in trials_of(store, study)] == list(range(20))
    assert study_of(store, study).created == 20


def test_threads_of_one_process_waste_no_suggestion(store: Store, searches: Searches) -> None:
    study = ready(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda worker: claim_trials(store, searches, str(worker), limit=2), range(8)))
    assert [trial.memory["drawn_for"] for trial in trials_of(store, study)] == list(range(16))


def test_a_suggestion_is_for_the_number_that_the_trial_gets(store: Store, study: Study, searches: Searches) -> None:
    claim_trials(store, searches, limit=3)
    operations.queue_trial(store, study.id, {"lr": 0.5})
    claim_trials(store, searches, limit=3)
    sampled = [trial for trial in trials_of(store, study) if trial.source == "sampler"]
    assert {trial.number: trial.params["lr"] for trial in sampled} == {n: RandomSearch(study.spec).draw(n) for n in (0, 1, 2, 4, 5)}


def test_a_worker_that_others_overtake_each_time_gets_a_trial(store: Store, study: Study) -> None:
    claim = claim_one(store, overtaken_searches(store))
    assert claim.lease.number == 2  # of the second suggestions, although trial 1 was claimed during them
    assert claim.params["lr"] == RandomSearch(study.spec).draw(2)


def test_a_trial_that_is_queued_while_the_sampler_suggests_is_claimed_first(store: Store, study: Study) -> None:
    class Slow(RandomSearch):
        def suggest(self, number: int, count: int = 1) -> list[object]:  # type: ignore[override]
            operations.queue_trial(store, study.id, {"lr": 0.25})
            return super().suggest(number, count)  # type: ignore[return-value]

    claim = claim_one(store, Searches(Slow))  # type: ignore[arg-type]
    assert (claim.lease.number, claim.params) == (0, {"lr": 0.25})
    assert study_of(store, study).created == 1


def test_a_lost_trial_is_claimed_before_a_queued_one_and_that_before_a_new_one(store: Store, study: Study, searches: Searches) -> None:
    first = claim_one(store, searches)
    operations.queue_trial(store, study.id, {"lr": 0.25})
    assert tell(store, first.lease, outcome=Released())
    order = [claim.lease.number for claim in claim_trials(store, searches, limit=3)]
    assert order == [0, 1, 2]
    assert trial_of(store, study, 0).attempt == 2


def test_the_study_with_the_fewest_running_trials_comes_first(store: Store, searches: Searches) -> None:
    older, newer = ready(store, name="older"), ready(store, name="newer")
    owners = [claim_one(store, searches).lease.study for _ in range(4)]
    assert owners == [older.id, newer.id, older.id, newer.id]


def test_a_study_that_nobody_checked_is_not_claimed_from(store: Store, searches: Searches) -> None:
    study = operations.create_study(store, spec_of(baseline={"lr": 0.5}))
    assert store.read(queries.unchecked_study) == study
    assert claim_trials(store, searches) == []
    operations.pass_check(store, study.id, FACTS)
    assert store.read(queries.unchecked_study) is None
    assert claim_one(store, searches).params == {"lr": 0.5}


def test_no_more_trials_run_than_may_run_in_parallel(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 20, "parallel": 3})
    claims = claim_trials(store, searches, limit=10)
    operations.queue_trial(store, study.id, {"lr": 0.5})
    assert len(claims) == 3
    assert claim_trials(store, searches, limit=10) == []
    finish(store, claims[0])
    assert len(claim_trials(store, searches, limit=10)) == 1


def test_a_study_whose_hours_are_over_starts_nothing_and_completes(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"hours": 1.0})
    claim = claim_one(store, searches)
    with store.writing() as tx:
        tx.execute(text("UPDATE study SET started_at = started_at - 3600"))
    assert claim_trials(store, searches) == []
    finish(store, claim)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_study_whose_hours_pass_while_nothing_runs_completes_at_the_next_claim(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"hours": 1.0})
    finish(store, claim_one(store, searches))
    with store.writing() as tx:
        tx.execute(text("UPDATE study SET started_at = started_at - 3600"))
    assert claim_trials(store, searches) == []
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_space_that_is_exhausted_completes_the_study_when_its_last_trial_ends(store: Store) -> None:
    study, searches = ready(store), searches_of(size=2)
    claims = claim_trials(store, searches, limit=5)
    assert len(claims) == 2
    finish(store, claims[0])
    assert study_of(store, study).state is StudyState.ACTIVE
    finish(store, claims[1])
    assert study_of(store, study).state is StudyState.COMPLETE
    assert kinds_of(store, study)[-1] == "study_completed"


def test_a_sampler_that_breaks_down_fails_its_study_and_no_other(store: Store) -> None:
    class Broken(RandomSearch):
        def suggest(self, number: int, count: int = 1) -> list[object]:  # type: ignore[override]
            if self.spec.name == "broken":
                raise ZeroDivisionError("no variance")
            return super().suggest(number, count)  # type: ignore[return-value]

    broken, sound = ready(store, name="broken"), ready(store, name="sound")
    assert claim_one(store, Searches(Broken)).lease.study == sound.id  # type: ignore[arg-type]
    assert study_of(store, broken).state is StudyState.FAILED
    assert "no variance" in (study_of(store, broken).reason or "")


@pytest.mark.parametrize("part", ["__init__", "absorb"])
def test_a_sampler_that_cannot_even_begin_fails_its_study_and_no_other(store: Store, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    class Broken(RandomSearch):
        pass

    def break_down(self: Broken, *args: object) -> None:
        raise MemoryError("the grid is too large")

    monkeypatch.setattr(Broken, part, break_down)
    broken, sound = ready(store, name="broken"), ready(store, name="sound")
    searches = Searches(lambda spec: (Broken if spec.name == "broken" else RandomSearch)(spec))  # type: ignore[arg-type,return-value]
    assert claim_one(store, searches).lease.study == sound.id
    assert study_of(store, broken).state is StudyState.FAILED
    assert "the grid is too large" in (study_of(store, broken).reason or "")


def test_a_study_that_is_deleted_while_its_sampler_breaks_down_ends_no_claim(store: Store) -> None:
    class Broken(RandomSearch):
        def suggest(self, number: int, count: int = 1) -> list[object]:  # type: ignore[override]
            operations.delete_study(store, study.id)
            raise ZeroDivisionError

    study = ready(store)
    assert claim_trials(store, Searches(Broken)) == []  # type: ignore[arg-type]


def test_a_decision_about_a_study_that_is_deleted_meanwhile_is_refused(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)

    class Deleting(Searches):
        @contextmanager
        def turn(self, study: Study) -> Iterator[CachedSearch]:
            operations.delete_study(store, study.id)
            with super().turn(study) as memory:
                yield memory

    with pytest.raises(LeaseLost):
        decide_one(store, Deleting(RandomSearch), claim.lease, {1: 0.5})  # type: ignore[arg-type]


def test_a_resumed_trial_goes_on_from_its_newest_checkpoint_and_later_steps_are_superseded(
    store: Store, study: Study, searches: Searches
) -> None:
    first = claim_one(store, searches)
    assert tell(store, first.lease, reports=[report(1, 0.1), report(2, 0.2)], checkpoint=checkpoint(2))
    assert tell(store, first.lease, reports=[report(3, 0.9), report(4, 0.95)])
    lose(store, first)
    second = claim_one(store, searches)
    assert [saved.step for saved in second.checkpoints] == [2]
    trial = trial_of(store, study, 0)
    assert (trial.step, trial.metrics) == (2, {"accuracy": 0.2})
    assert tell(store, second.lease, reports=[report(3, 0.3)])
    assert tell(store, second.lease, reports=[report(3, 0.3)])
    stored = store.read(queries.metrics, trial.id)
    assert [(metric.step, metric.value, metric.attempt) for metric in stored] == [(1, 0.1, 1), (2, 0.2, 1), (3, 0.3, 2)]
    assert store.read(queries.changed_since, study.id, 0).values == [(0, 1, 0.1), (0, 2, 0.2), (0, 3, 0.3)]


def test_the_database_refuses_a_running_trial_without_a_lease(store: Store, study: Study, searches: Searches) -> None:
    claim_one(store, searches)
    for change in ("UPDATE trial SET worker = NULL", "UPDATE trial SET attempt = 0"):
        with pytest.raises(IntegrityError), store.writing() as tx:
            tx.execute(text(change))
    assert trial_of(store, study, 0).state is TrialState.RUNNING


def test_a_decision_is_asked_of_the_history_and_refused_to_a_stale_attempt(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    assert decide_one(store, searches, claim.lease, {1: 0.5}).go_on
    assert not decide_one(store, searches, claim.lease, {1: 0.05}).go_on
    operations.cancel_trial(store, study.id, 0)
    with pytest.raises(LeaseLost):
        decide_one(store, searches, claim.lease, {1: 0.5})


def test_a_study_that_is_deleted_while_the_sampler_thinks_gives_no_trial(store: Store, study: Study) -> None:
    class Slow(RandomSearch):
        def suggest(self, number: int, count: int = 1) -> list[object]:  # type: ignore[override]
            operations.delete_study(store, study.id)
            return super().suggest(number, count)  # type: ignore[return-value]

    assert claim_trials(store, Searches(Slow)) == []  # type: ignore[arg-type]
    assert store.read(queries.studies) == []


def test_contention_brings_no_error_to_anyone(store: Store) -> None:
    study = ready(store, budget={"trials": 40})
    searches = searches_of()

    def work(worker: int) -> None:
        for _ in range(3):
            claims = claim_trials(store, searches, str(worker), limit=2)
            leases = [claim.lease for claim in claims]
            if worker % 3 == 0 and leases:
                operations.cancel_trial(store, study.id, leases[0].number)
            lost = operations.heartbeat(store, str(worker), leases)
            refused = operations.record(store, [Write(lease, reports=[report(1, 0.5)], outcome=Released()) for lease in leases])
            assert lost == refused == (leases[:1] if worker % 3 == 0 else [])

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))
    cancelled = store.read(queries.counts, [study.id])[study.id][TrialState.CANCELLED]
    assert cancelled == kinds_of(store, study).count("trial_cancelled") > 0
