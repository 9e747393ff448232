"""A trial that ran out of a device's memory is offered to a larger device before its failure counts, and never waits for one in vain."""

from dataclasses import replace

import pytest

from service import operations
from service.domain.records import Claim, Study, Worker
from service.domain.states import StudyState, TrialState, WorkerState
from service.operations import Searches
from service.reaper import Reaper
from service.store import Store, queries
from tests.operations.driving import (
    checkpoint,
    finished,
    kinds_of,
    lose,
    ready,
    report,
    scored,
    searches_of,
    study_of,
    tell,
    trial_of,
)
from tests.operations.test_confirming import confirming, search
from trainer.protocol import Failed

GB = 10**9
SMALL, LARGE = 8 * GB, 24 * GB
LEASE = 30.0
STARVED = Failed(reason="out_of_memory", detail="2.00 GiB could not be allocated on the GPU", step=1, device_bytes=SMALL)


class Clock:
    """A clock that moves when it is told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def register(store: Store, name: str, size: int | None, device: str = "cuda:GPU-1") -> Worker:
    worker = Worker(
        id=name, host="box", pid=1, slots=1, devices=(device,), state=WorkerState.ALIVE, started_at=0.0, seen_at=0.0, memory=(size,)
    )
    operations.register_worker(store, worker)
    return worker


def claim_on(store: Store, searches: Searches, size: int, worker: str = "w") -> list[Claim]:
    return operations.claim_together(store, searches, worker, 0, device_bytes=size)


def sweep(store: Store, seconds: float, *alive: str) -> None:
    """A new reaper sweeps for so long, and these workers send heartbeats meanwhile."""
    clock = Clock()
    reaper = Reaper(store, LEASE, clock)
    for _ in range(int(seconds / 5) + 1):
        for worker in alive:
            operations.heartbeat(store, worker, [])
        reaper.sweep()
        clock.now += 5


def starve(store: Store, searches: Searches, outcome: Failed = STARVED) -> Claim:
    """Claim a trial on the small device and let it run out of memory after a checkpoint."""
    (claim,) = claim_on(store, searches, SMALL, "small")
    assert tell(store, claim.lease, reports=[report(1, 0.1)], checkpoint=checkpoint(1), outcome=outcome)
    return claim


def test_it_waits_for_the_larger_device_with_its_checkpoint(store: Store, study: Study, searches: Searches) -> None:
    register(store, "small", SMALL), register(store, "large", LARGE)
    first = starve(store, searches)
    waiting = trial_of(store, study, 0)
    assert (waiting.state, waiting.reason, waiting.worker) == (TrialState.QUEUED, None, None)
    (attempt,) = store.read(queries.attempts, waiting.id)
    assert attempt.ending == "released" and attempt.detail == f"{STARVED.detail}; it waits for a GPU with at least 10.0 GB"
    (other,) = claim_on(store, searches, SMALL)
    assert other.lease.number == 1, "the small device gets a new trial"
    (again,) = claim_on(store, searches, LARGE)
    assert (again.lease.number, again.lease.attempt, again.checkpoints) == (0, 2, (checkpoint(1),))
    assert tell(store, again.lease, outcome=finished(0.5))
    assert trial_of(store, study, 0).state is TrialState.COMPLETE
    assert not tell(store, first.lease, outcome=finished(0.9)), "the attempt on the small device is over"


def test_a_repeated_report_of_the_failure_is_accepted_once(store: Store, study: Study, searches: Searches) -> None:
    register(store, "large", LARGE)
    claim = starve(store, searches)
    before = kinds_of(store, study)
    assert tell(store, claim.lease, outcome=STARVED) and kinds_of(store, study) == before
    (again,) = claim_on(store, searches, LARGE)
    assert tell(store, claim.lease, outcome=STARVED) and trial_of(store, study, 0).state is TrialState.RUNNING
    assert again.lease.attempt == 2


@pytest.mark.parametrize(
    ("size", "device"), [(SMALL, "cuda:GPU-1"), (int(1.2 * SMALL), "cuda:GPU-1"), (None, "cuda:GPU-1"), (LARGE, "cpu")]
)
def test_without_a_larger_device_the_failure_counts_at_once(
    store: Store, study: Study, searches: Searches, size: int | None, device: str
) -> None:
    register(store, "other", size, device)
    starve(store, searches)
    failed = trial_of(store, study, 0)
    assert (failed.state, failed.reason, failed.detail) == (TrialState.FAILED, "out_of_memory", STARVED.detail)


@pytest.mark.parametrize("why", ["gone", "draining", "cannot read the data"])
def test_a_worker_that_claims_nothing_of_the_study_does_not_count(store: Store, study: Study, searches: Searches, why: str) -> None:
    register(store, "large", LARGE)
    match why:
        case "gone":
            operations.retire_worker(store, "large")
        case "draining":
            operations.drain_worker(store, "large")
        case _:
            operations.report_unavailable(store, "large", study.id, "data", "no such folder")
    starve(store, searches)
    assert trial_of(store, study, 0).state is TrialState.FAILED


@pytest.mark.parametrize("outcome", [STARVED.model_copy(update={"device_bytes": None}), STARVED.model_copy(update={"reason": "diverged"})])
def test_memory_of_the_host_and_other_failures_are_not_offered(store: Store, study: Study, searches: Searches, outcome: Failed) -> None:
    register(store, "large", LARGE)
    starve(store, searches, outcome)
    assert trial_of(store, study, 0).reason == outcome.reason


def test_a_failure_on_the_large_device_is_offered_to_one_that_is_larger_still_and_then_counts(
    store: Store, study: Study, searches: Searches
) -> None:
    register(store, "large", LARGE), register(store, "largest", 80 * GB)
    starve(store, searches)
    (second,) = claim_on(store, searches, LARGE)
    assert tell(store, second.lease, outcome=STARVED.model_copy(update={"device_bytes": LARGE}))
    assert [claim.lease.number for claim in claim_on(store, searches, LARGE)] == [1]
    (third,) = claim_on(store, searches, 80 * GB)
    assert tell(store, third.lease, outcome=STARVED.model_copy(update={"device_bytes": 80 * GB}))
    failed = trial_of(store, study, 0)
    assert (failed.state, failed.reason, failed.attempt) == (TrialState.FAILED, "out_of_memory", 3)


def test_the_study_ends_when_the_larger_worker_disappears(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1})
    register(store, "small", SMALL), register(store, "large", LARGE)
    starve(store, searches)
    sweep(store, 3 * LEASE, "small", "large")
    assert trial_of(store, study, 0).state is TrialState.QUEUED and claim_on(store, searches, SMALL) == []
    sweep(store, LEASE - 5, "small")
    assert study_of(store, study).state is StudyState.ACTIVE, "it may be silent for less than a lease"
    sweep(store, LEASE + 5, "small")
    failed = trial_of(store, study, 0)
    assert (failed.state, failed.reason) == (TrialState.FAILED, "out_of_memory")
    assert failed.detail == f"no worker with a GPU of at least 10.0 GB is left; the last attempt: {STARVED.detail}"
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_worker_that_leaves_in_order_ends_the_wait_after_a_lease(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1})
    register(store, "large", LARGE)
    starve(store, searches)
    operations.retire_worker(store, "large")
    sweep(store, LEASE - 10)
    assert study_of(store, study).state is StudyState.ACTIVE, "the worker may be restarting"
    sweep(store, LEASE + 5)
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_worker_that_restarts_on_the_large_device_trains_the_trial(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1})
    register(store, "large", LARGE)
    starve(store, searches)
    operations.retire_worker(store, "large")
    sweep(store, LEASE - 10)
    register(store, "large again", LARGE)
    sweep(store, 3 * LEASE, "large again")
    assert trial_of(store, study, 0).state is TrialState.QUEUED
    assert [claim.lease.number for claim in claim_on(store, searches, LARGE, "large again")] == [0]


def test_a_trial_that_is_lost_on_the_large_device_waits_for_another_and_fails_without_one(store: Store, searches: Searches) -> None:
    study = ready(store, budget={"trials": 1})
    register(store, "large", LARGE)
    starve(store, searches)
    (claim,) = claim_on(store, searches, LARGE, "large")
    sweep(store, 2 * LEASE / 3)
    lose(store, claim)
    assert claim_on(store, searches, SMALL) == [] and trial_of(store, study, 0).state is TrialState.QUEUED
    sweep(store, LEASE + 5)
    failed = trial_of(store, study, 0)
    assert failed.reason == "out_of_memory" and "stopped sending heartbeats" in (failed.detail or "")


def test_a_worker_that_comes_back_in_time_keeps_the_trial_waiting(store: Store, study: Study, searches: Searches) -> None:
    register(store, "large", LARGE)
    starve(store, searches)
    (waiting,) = store.read(queries.waiting_for_device)
    silent = store.read(queries.workers_with_device, study.id, waiting.least_device_bytes)
    operations.heartbeat(store, "large", [])
    assert operations.fail_without_device(store, [waiting], silent) == 0, "it sent a heartbeat since the reaper looked"
    assert trial_of(store, study, 0).state is TrialState.QUEUED
    silent = store.read(queries.workers_with_device, study.id, waiting.least_device_bytes)
    assert operations.fail_without_device(store, [replace(waiting, least_device_bytes=1)], silent) == 0, "an older look"
    assert operations.fail_without_device(store, [waiting], silent) == 1


def test_sampler_duplicates_and_counts_do_not_see_a_failure_while_it_waits(store: Store) -> None:
    study, searches = ready(store, budget={"trials": 3}, limits={"failures": 1}), searches_of(choices=1)
    register(store, "large", LARGE)
    starve(store, searches)
    assert claim_on(store, searches, SMALL) == [], "the next two trials have the same parameters"
    with searches.for_study(store, study) as cached:
        assert {trial.state for trial in cached.search.known.values()} == {TrialState.QUEUED}  # type: ignore[attr-defined]
    waiting = [trial_of(store, study, number) for number in range(3)]
    assert [(one.state, one.duplicate_of) for one in waiting] == [(TrialState.QUEUED, original) for original in (None, 0, 0)]
    assert study_of(store, study).state is StudyState.ACTIVE
    (claim,) = claim_on(store, searches, LARGE)
    assert claim.lease.number == 0
    assert tell(store, claim.lease, outcome=finished(0.75))
    assert [trial_of(store, study, number).value for number in range(3)] == [0.75] * 3


def test_a_small_worker_alone_does_not_end_the_confirmation_or_the_study_while_a_trial_waits(store: Store, searches: Searches) -> None:
    study = confirming(store)
    register(store, "large", LARGE)
    search(store, searches, {0: 0.5, 1: 0.6, 2: 0.7})
    starve(store, searches)
    assert claim_on(store, searches, SMALL) == [] and study_of(store, study).confirmation is None
    (claim,) = claim_on(store, searches, LARGE)
    assert tell(store, claim.lease, outcome=finished(0.8))
    claim_on(store, searches, SMALL)
    assert study_of(store, study).confirmation is not None


@pytest.mark.parametrize("disappears", [False, True])
def test_a_trial_of_the_confirmation_is_offered_likewise(store: Store, searches: Searches, disappears: bool) -> None:
    study = confirming(store)
    register(store, "large", LARGE)
    search(store, searches, {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8})
    claim_on(store, searches, SMALL)
    claim = starve(store, searches)
    assert claim.round is not None and trial_of(store, study, claim.lease.number).state is TrialState.QUEUED
    if disappears:
        sweep(store, LEASE + 5)
        assert trial_of(store, study, claim.lease.number).reason == "out_of_memory"
    else:
        (again,) = claim_on(store, searches, LARGE)
        assert (again.lease.number, again.round) == (claim.lease.number, claim.round)
        assert tell(store, again.lease, result={"trainable": 1_000}, outcome=scored(0.8, 0.7))
    for _ in range(40):
        for one in claim_on(store, searches, SMALL):
            assert tell(store, one.lease, result={"trainable": 1_000}, outcome=scored(0.8, 0.7))
    assert study_of(store, study).state is StudyState.COMPLETE


def test_a_paused_study_waits(store: Store, study: Study, searches: Searches) -> None:
    register(store, "large", LARGE)
    starve(store, searches)
    operations.pause_study(store, study.id)
    sweep(store, 2 * LEASE)
    assert trial_of(store, study, 0).state is TrialState.QUEUED
