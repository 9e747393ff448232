"""Each change has one event, and a reader who follows them misses none."""

import threading
from concurrent.futures import ThreadPoolExecutor

from service import operations
from service.domain.records import Event, Study
from service.operations import Searches, Write
from service.store import Store, queries
from tests.operations.driving import checkpoint, claim_one, claim_trials, finished, ready, report, searches_of, study_of, tell, trials_of


def test_events_are_numbered_without_a_gap_and_appear_in_that_order(store: Store) -> None:
    study = ready(store, budget={"trials": 24})
    done = threading.Event()

    def follow() -> list[Event]:
        """As a stream does: ask for what is after the last one seen."""
        seen: list[Event] = []
        while True:
            last = done.is_set()
            new = store.read(queries.events_after, study.id, seen[-1].seq if seen else 0, limit=7)
            seen += new
            if last and not new:
                return seen

    def work(worker: int) -> None:
        searches = searches_of()
        while claims := claim_trials(store, searches, str(worker), limit=3):
            operations.record(store, [Write(claim.lease, reports=[report(1, 0.5)], outcome=finished(0.5)) for claim in claims])

    with ThreadPoolExecutor(8) as pool:
        followers = [pool.submit(follow) for _ in range(3)]
        for worker in [pool.submit(work, number) for number in range(4)]:
            worker.result()
        done.set()
        for follower in followers:
            assert [event.seq for event in follower.result()] == list(range(1, study_of(store, study).seq + 1))
    started = [event.body["number"] for event in store.read(queries.events_after, study.id, 0) if event.kind == "trial_started"]
    assert started == list(range(24))


def test_an_event_tells_what_a_page_must_know(store: Store, study: Study, searches: Searches) -> None:
    claim = claim_one(store, searches)
    assert tell(store, claim.lease, reports=[report(1, 0.2), report(2, 0.4)], checkpoint=checkpoint(2), outcome=finished(0.4, step=2))
    started, reported, saved, completed = (event.body for event in store.read(queries.events_after, study.id, 2))
    assert started.items() >= {"number": 0, "state": "running", "attempt": 1, "params": dict(claim.params), "worker": "w"}.items()
    assert reported["reports"] == [{"step": 1, "metrics": {"accuracy": 0.2}}, {"step": 2, "metrics": {"accuracy": 0.4}}]
    assert saved["step"] == 2
    assert completed.items() >= {"number": 0, "state": "complete", "value": 0.4, "reason": None, "duplicate_of": None}.items()


def test_a_trial_knows_the_last_event_that_changed_it(store: Store, study: Study, searches: Searches) -> None:
    for claim in claim_trials(store, searches, limit=3):
        assert tell(store, claim.lease, reports=[report(1, 0.5)])
    last = {event.body["number"]: event.seq for event in store.read(queries.events_after, study.id, 0) if "number" in event.body}
    assert {trial.number: trial.changed for trial in trials_of(store, study)} == last


def test_what_changed_since_an_event_is_what_a_search_has_to_learn(store: Store, study: Study, searches: Searches) -> None:
    first, second = claim_trials(store, searches, limit=2)
    assert tell(store, first.lease, reports=[report(1, 0.5)])
    before = study_of(store, study).seq
    assert tell(store, second.lease, reports=[report(1, 0.6), report(2, 0.7)])
    history = store.read(queries.changed_since, study.id, before)
    assert (history.seq, history.created, [trial.number for trial in history.trials]) == (before + 1, 2, [1])
    assert history.values == [(1, 1, 0.6), (1, 2, 0.7)]
    assert store.read(queries.changed_since, study.id, history.seq).trials == []
