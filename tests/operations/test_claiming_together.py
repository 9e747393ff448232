"""Who trains together, under any concurrency."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from service import operations
from service.domain.records import Claim, Study
from service.domain.states import StudyState, TrialState
from service.operations import Released, Searches
from service.search.study import Suggestion
from service.store import Store, open_store, queries
from tests.operations.driving import (
    BROKEN,
    checkpoint,
    finish,
    lose,
    overtaken_searches,
    ready,
    report,
    searches_of,
    study_of,
    tell,
    trial_of,
    trials_of,
)
from tests.racing import race
from trainer.tasks.images import catalogue

STAGES = len(catalogue.load("resnet18").stages)
BYTES = 10**9
HEAD_ONLY: dict[str, Any] = {
    "model": {"name": "resnet18", "weights": "DEFAULT"},
    "fixed": {"frozen_layers": STAGES},
    "sampler": {"name": "random"},
}
LEARNING = HEAD_ONLY | {"sampler": {"name": "tpe"}}
MIXED: dict[str, Any] = HEAD_ONLY | {
    "fixed": {},
    "search_space": {"frozen_layers": {"type": "int", "low": 0, "high": STAGES}, "lr": {"type": "float", "low": 0.0, "high": 1.0}},
}
ALONE, SHARED = {"frozen_layers": 0, "lr": 0.5}, {"frozen_layers": STAGES, "lr": 0.5}


def lanes_ready(store: Store, **changes: Any) -> Study:
    return ready(store, **{**HEAD_ONLY, **changes})


def together(store: Store, searches: Searches, worker: str = "w", lane_bytes: int = BYTES) -> list[int]:
    return numbers(operations.claim_together(store, searches, worker, lane_bytes))


def numbers(claims: list[Claim]) -> list[int]:
    return [claim.lease.number for claim in claims]


def states(store: Store, study: Study) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for trial in trials_of(store, study):
        found.setdefault(trial.state, []).append(trial.number)
    return found


def mixed_searches(depths: str) -> Searches:
    """Suggestions that freeze all stages where there is an `s`, none where there is an `a`, over and over; each with an lr of its own."""

    class Mixed:
        def __init__(self, spec: Any) -> None:
            self.seq = 0

        def absorb(self, seq: int, trials: Any, values: Any) -> None:
            self.seq = seq

        def suggest(self, number: int, count: int = 1) -> list[Any]:
            depth = {"s": STAGES, "a": 0}
            drawn = [{"frozen_layers": depth[depths[one % len(depths)]], "lr": one / 1_000} for one in range(number, number + count)]
            return [Suggestion(params) for params in drawn]

    return Searches(Mixed)  # type: ignore[arg-type]


def test_all_trials_of_a_study_that_trains_heads_alone_go_together(store: Store, searches: Searches) -> None:
    study = lanes_ready(store)
    claims = operations.claim_together(store, searches, "w", BYTES)
    assert numbers(claims) == list(range(20))
    assert {(claim.lease.worker, claim.lease.attempt, claim.lease.study) for claim in claims} == {("w", 1, study.id)}
    assert [trial.memory["drawn_for"] for trial in trials_of(store, study)] == list(range(20))
    assert together(store, searches) == []


def test_a_study_that_trains_more_than_heads_gives_one_trial_at_a_time(store: Store, study: Study, searches: Searches) -> None:
    assert [together(store, searches) for _ in range(3)] == [[0], [1], [2]]
    assert states(store, study) == {"running": [0, 1, 2]}


def test_memory_and_limits_bound_how_many_go_together(store: Store, searches: Searches) -> None:
    lanes_ready(store, limits={"lanes": 3})
    assert together(store, searches) == [0, 1, 2]
    assert together(store, searches, lane_bytes=0) == [3]
    assert together(store, searches) == [4, 5, 6]


def test_no_more_go_together_than_may_run_in_parallel(store: Store, searches: Searches) -> None:
    study = lanes_ready(store, budget={"trials": 20, "parallel": 5})
    claims = operations.claim_together(store, searches, "w", BYTES)
    assert numbers(claims) == [0, 1, 2, 3, 4]
    assert together(store, searches) == []
    finish(store, claims[0])
    finish(store, claims[1])
    assert together(store, searches) == [5, 6]
    assert states(store, study) == {"complete": [0, 1], "running": [2, 3, 4, 5, 6]}


@pytest.mark.parametrize(("sampler", "left"), [("random", [4, 5]), ("tpe", [2, 3, 4, 5])])
def test_a_worker_that_others_overtake_each_time_gets_what_the_budget_leaves(store: Store, sampler: str, left: list[int]) -> None:
    """A sampler that learns is asked once for a pass, another one twice, and each time a trial is claimed meanwhile."""
    study = lanes_ready(store, sampler={"name": sampler}, budget={"trials": 6})
    assert together(store, overtaken_searches(store)) == left
    assert [trial.memory["drawn_for"] for trial in trials_of(store, study)] == list(range(6))


def test_threads_of_one_process_that_take_passes_waste_no_suggestion(store: Store, searches: Searches) -> None:
    study = lanes_ready(store, limits={"lanes": 2})
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda worker: together(store, searches, str(worker)), range(8)))
    assert sorted(claimed) == [[number, number + 1] for number in range(0, 16, 2)]
    assert [trial.memory["drawn_for"] for trial in trials_of(store, study)] == list(range(16))


def test_what_cannot_join_is_queued_for_whoever_claims_next(store: Store) -> None:
    study, searches = lanes_ready(store, **MIXED), mixed_searches("saasa")
    assert together(store, searches) == [0, 3, 5, 8, 10, 13, 15, 18]
    assert states(store, study)["queued"] == [1, 2, 4, 6, 7, 9, 11, 12, 14, 16, 17]
    assert all(trial.source == "sampler" for trial in trials_of(store, study))
    assert together(store, searches) == [1]
    assert together(store, searches) == [2]


def test_nothing_is_looked_ahead_where_the_first_suggestion_trains_alone(store: Store) -> None:
    study, searches = lanes_ready(store, **MIXED), mixed_searches("as")
    assert together(store, searches) == [0]
    assert study_of(store, study).created == 1
    assert len(together(store, searches)) == 10


def test_a_sampler_that_learns_queues_all_it_thought_of_at_once_and_no_more(store: Store) -> None:
    study = lanes_ready(store, **MIXED | {"sampler": {"name": "tpe", "n_startup_trials": 6}})
    assert together(store, mixed_searches("sas")) == [0, 2, 3, 5]
    assert states(store, study) == {"running": [0, 2, 3, 5], "queued": [1, 4]}


def test_waiting_trials_with_the_key_of_the_first_join_it_and_the_others_wait_on(store: Store, searches: Searches) -> None:
    study = lanes_ready(store, **MIXED, budget={"trials": 5})
    operations.enqueue_trials(store, study.id, [SHARED, ALONE, SHARED, ALONE, SHARED])
    assert [together(store, searches) for _ in range(4)] == [[0, 2, 4], [1], [3], []]


def test_new_trials_join_a_waiting_one_when_nothing_else_waits(store: Store, searches: Searches) -> None:
    study = lanes_ready(store, baseline={"lr": 0.5})
    assert together(store, searches) == list(range(20))
    assert trial_of(store, study, 0).source == "baseline"


def test_new_trials_do_not_join_while_others_wait(store: Store) -> None:
    study = lanes_ready(store, **MIXED)
    operations.enqueue_trials(store, study.id, [SHARED, ALONE])
    searches = mixed_searches("s")
    assert together(store, searches) == [0]
    assert together(store, searches) == [1]
    assert together(store, searches) == list(range(2, 20))


def test_new_trials_that_cannot_join_a_waiting_one_are_left_for_later(store: Store) -> None:
    study = lanes_ready(store, **MIXED)
    operations.enqueue_trials(store, study.id, [SHARED])
    assert together(store, mixed_searches("a")) == [0]
    assert study_of(store, study).created == 1


@pytest.mark.parametrize("end", ["lost", "released"])
def test_a_trial_that_was_started_before_trains_alone(store: Store, searches: Searches, end: str) -> None:
    lanes_ready(store, budget={"trials": 4})
    claims = operations.claim_together(store, searches, "w", BYTES)
    for claim in claims:
        assert tell(store, claim.lease, reports=[report(1, 0.5)], checkpoint=checkpoint(1))
        lose(store, claim) if end == "lost" else tell(store, claim.lease, outcome=Released())
    assert [together(store, searches) for _ in range(5)] == [[0], [1], [2], [3], []]


def test_duplicates_within_a_pass_wait_for_their_original(store: Store) -> None:
    study, searches = lanes_ready(store, **LEARNING, budget={"trials": 10}), searches_of(choices=3)
    claims = operations.claim_together(store, searches, "w", BYTES)
    assert len(claims) == 3
    assert study_of(store, study).created == 10
    for claim in claims:
        finish(store, claim)
    assert study_of(store, study).state is StudyState.COMPLETE
    assert {trial.state for trial in trials_of(store, study)} == {TrialState.COMPLETE}


def test_duplicates_within_a_pass_are_trained_when_their_original_fails(store: Store) -> None:
    study, searches = lanes_ready(store, **LEARNING, budget={"trials": 3}), searches_of(choices=1)
    (claim,) = operations.claim_together(store, searches, "w", BYTES)
    assert tell(store, claim.lease, outcome=BROKEN)
    assert together(store, searches) == [1]
    assert trial_of(store, study, 2).duplicate_of == 1


def test_answered_duplicates_are_passed_over_until_a_trial_needs_a_worker(store: Store) -> None:
    study, searches = lanes_ready(store, budget={"trials": 12}, limits={"lanes": 2}), searches_of(choices=2)
    for claim in operations.claim_together(store, searches, "w", BYTES):
        finish(store, claim)
    while claims := operations.claim_together(store, searches, "w", BYTES):
        for claim in claims:
            finish(store, claim)
    assert study_of(store, study).state is StudyState.COMPLETE
    assert len({trial.params["lr"] for trial in trials_of(store, study) if trial.attempt}) == 2


def test_an_exhausted_space_ends_a_pass_early_and_then_the_study(store: Store) -> None:
    study, searches = lanes_ready(store), searches_of(size=7)
    claims = operations.claim_together(store, searches, "w", BYTES)
    assert numbers(claims) == list(range(7))
    assert together(store, searches) == []
    for claim in claims:
        finish(store, claim)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_claim_knows_what_the_study_has_still_to_train(store: Store, searches: Searches) -> None:
    lanes_ready(store, fixed={"frozen_layers": STAGES, "epochs": 3}, limits={"lanes": 2})
    asked = [claim.demand[STAGES] for _ in range(2) for claim in operations.claim_together(store, searches, "w", BYTES)]
    assert asked == [60.0, 57.0, 54.0, 51.0]


def test_trials_that_were_never_started_are_cancelled_when_the_hours_are_over(store: Store) -> None:
    study, searches = lanes_ready(store, **MIXED, budget={"hours": 1.0}), mixed_searches("sas")
    running = operations.claim_together(store, searches, "w", BYTES)
    operations.queue_trial(store, study.id, ALONE)
    lost = running[0]
    lose(store, lost)
    with store.writing() as tx:
        tx.execute(text("UPDATE study SET started_at = started_at - 3600"))
    (again,) = operations.claim_together(store, searches, "w", BYTES)
    assert (again.lease.number, again.lease.attempt) == (lost.lease.number, 2)  # what was begun may end
    unstarted = [trial for trial in trials_of(store, study) if not trial.attempt]
    assert {trial.source for trial in unstarted} == {"sampler", "user"}
    assert {(trial.state, trial.detail) for trial in unstarted} == {("cancelled", "it was not started within the study's 1 hours")}
    assert together(store, searches) == []
    for claim in (again, *running[1:]):
        finish(store, claim)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_the_last_end_after_the_hours_cancels_what_waits_and_still_answers_duplicates(store: Store) -> None:
    study, searches = lanes_ready(store, budget={"hours": 1.0}, limits={"lanes": 3}), searches_of(choices=1)
    (claim,) = operations.claim_together(store, searches, "w", BYTES)
    operations.queue_trial(store, study.id, {"lr": 0.75})
    with store.writing() as tx:
        tx.execute(text("UPDATE study SET started_at = started_at - 3600"))
    finish(store, claim)
    trials = trials_of(store, study)
    assert [trial.state for trial in trials if trial.duplicate_of == 0] == [TrialState.COMPLETE] * (len(trials) - 2)
    assert trials[-1].state is TrialState.CANCELLED
    assert study_of(store, study).state is StudyState.COMPLETE


def drain_passes(url: str, worker: str) -> list[tuple[int, int]]:
    """Claim one pass after another until there is none; number and attempt of each trial."""
    store, searches = open_store(url), searches_of()
    claimed = []
    while claims := operations.claim_together(store, searches, worker, BYTES):
        claimed += [(claim.lease.number, claim.lease.attempt) for claim in claims]
    store.close()
    return claimed


def test_four_processes_never_share_a_trial(store: Store, database_url: str) -> None:
    study = lanes_ready(store, budget={"trials": 200}, limits={"lanes": 7})
    operations.enqueue_trials(store, study.id, [{"lr": place / 100} for place in range(100)])
    claimed = [pair for pairs in race(drain_passes, database_url, "w", processes=4) for pair in pairs]
    trials = trials_of(store, study)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    started = [(trial.number, 1) for trial in trials if trial.state is TrialState.RUNNING]
    assert sorted(claimed) == started
    assert len(trials) == 200 == len(started)


def test_sixteen_threads_that_take_passes_never_exceed_the_budget(store: Store) -> None:
    study = lanes_ready(store, budget={"trials": 100}, limits={"lanes": 5})
    at_once = threading.Barrier(16)

    def claim_some(worker: int) -> list[int]:
        own = searches_of()  # as in a process of its own: the threads do not take turns at thinking
        at_once.wait()
        return [number for _ in range(3) for number in together(store, own, str(worker))]

    with ThreadPoolExecutor(16) as pool:
        claimed = [number for part in pool.map(claim_some, range(16)) for number in part]
    while more := together(store, searches_of()):
        claimed += more
    assert sorted(claimed) == list(range(100))
    trials = trials_of(store, study)
    assert [trial.memory["drawn_for"] for trial in trials] == list(range(100))
    events = store.read(queries.events_after, study.id, 0, limit=100_000)
    assert [event.seq for event in events] == list(range(1, study_of(store, study).seq + 1))
