"""The reaper takes trials from workers that are gone, and from no other."""

from service import operations
from service.domain.records import StaleLease, Study
from service.domain.states import TrialState
from service.operations import Searches
from service.reaper import Reaper
from service.store import Store, queries
from tests.operations.driving import claim_one, trial_of


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def sweeps(reaper: Reaper, clock: Clock, count: int, seconds: float = 5.0) -> int:
    taken = 0
    for _ in range(count):
        taken += reaper.sweep()
        clock.now += seconds
    return taken


def test_a_lease_that_stands_still_for_its_whole_length_is_taken(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    claim_one(store, searches)
    assert sweeps(reaper, clock, 6) == 0
    assert sweeps(reaper, clock, 1) == 1
    assert trial_of(store, study, 0).state is TrialState.QUEUED


def test_a_lease_that_beats_is_kept(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    claim = claim_one(store, searches)
    for _ in range(10):
        assert sweeps(reaper, clock, 4) == 0
        assert operations.heartbeat(store, "w", [claim.lease]) == []
    assert trial_of(store, study, 0).state is TrialState.RUNNING


def test_a_new_reaper_expires_nothing_at_first(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    claim_one(store, searches)
    sweeps(Reaper(store, lease_seconds=30, clock=clock), clock, 5)
    assert sweeps(Reaper(store, lease_seconds=30, clock=clock), clock, 6) == 0


def test_an_outage_does_not_expire_every_lease(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    claim_one(store, searches)
    sweeps(reaper, clock, 2)
    clock.now += 3_600
    assert sweeps(reaper, clock, 2) == 0


def test_the_next_attempt_has_a_whole_lease_of_its_own(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    claim_one(store, searches)
    assert sweeps(reaper, clock, 7) == 1
    claim_one(store, searches)
    assert sweeps(reaper, clock, 6) == 0
    assert sweeps(reaper, clock, 1) == 1


def test_a_store_that_does_not_answer_does_not_end_the_reaper(store: Store, study: Study) -> None:
    clock = Clock()
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    assert reaper.seconds_since_sweep is None
    reaper.sweep()
    clock.now += 7
    assert reaper.seconds_since_sweep == 7
    away = Reaper(_unreachable(), lease_seconds=30, clock=clock)
    assert away.sweep() == 0
    assert away.seconds_since_sweep is None


def _unreachable() -> Store:
    from service.store import open_store

    return open_store("postgresql://nobody@127.0.0.1:1/nothing")


def test_reapers_that_never_live_for_a_lease_take_a_lost_trial_together(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    claim_one(store, searches)
    lives = 0
    while trial_of(store, study, 0).state is TrialState.RUNNING:
        sweeps(Reaper(store, lease_seconds=30, clock=clock), clock, 4)
        lives += 1
        assert lives < 20
    assert lives == 4, "each sees 15 seconds, of the 60 that it takes"


def test_reapers_that_are_restarted_keep_a_lease_that_beats_now_and_then(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    claim = claim_one(store, searches)
    for _ in range(20):
        assert sweeps(Reaper(store, lease_seconds=30, clock=clock), clock, 4) == 0
        assert operations.heartbeat(store, "w", [claim.lease]) == []


def test_what_two_reapers_see_at_the_same_time_counts_once(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    claim = claim_one(store, searches)
    pair = [Reaper(store, lease_seconds=30, clock=clock) for _ in range(2)]
    for _ in range(6):
        for reaper in pair:
            assert reaper.sweep() == 0
        clock.now += 5
    counted = store.read(queries.stale_leases, [claim.lease.trial])[claim.lease.trial]
    assert counted.seconds == 25


def test_a_reaper_takes_nothing_at_its_first_looks_whatever_was_counted_before(store: Store, study: Study, searches: Searches) -> None:
    clock = Clock()
    claim = claim_one(store, searches)
    heartbeats = dict(store.read(queries.running_leases))[claim.lease]
    assert operations.record_stale_leases(store, {StaleLease(claim.lease.trial, heartbeats, 0.0): 1_000.0})
    reaper = Reaper(store, lease_seconds=30, clock=clock)
    assert sweeps(reaper, clock, 2) == 0
    assert operations.heartbeat(store, "w", [claim.lease]) == []
    assert sweeps(reaper, clock, 6) == 0, "a heartbeat voids what was counted"


def test_a_count_that_another_reaper_was_quicker_with_is_not_added(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    heartbeats = dict(store.read(queries.running_leases))[claim.lease]
    before = StaleLease(claim.lease.trial, heartbeats, 0.0)
    (longer,) = operations.record_stale_leases(store, {before: 10.0})
    assert operations.record_stale_leases(store, {before: 10.0}) == []
    assert operations.record_stale_leases(store, {longer: 5.0}) == [StaleLease(claim.lease.trial, heartbeats, 15.0)]
    assert operations.record_stale_leases(store, {longer: 5.0}) == []
    beyond = StaleLease(claim.lease.trial, heartbeats + 1, 0.0)
    assert operations.record_stale_leases(store, {beyond: 5.0}) == [StaleLease(claim.lease.trial, heartbeats + 1, 5.0)]


def test_what_was_counted_goes_with_its_study(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    still = StaleLease(claim.lease.trial, dict(store.read(queries.running_leases))[claim.lease], 0.0)
    assert operations.record_stale_leases(store, {still: 10.0})
    operations.delete_study(store, study.id)
    assert store.read(queries.stale_leases, [claim.lease.trial]) == {}
    assert operations.record_stale_leases(store, {still: 10.0}) == []
