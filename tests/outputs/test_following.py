"""Sinks get every event in order, once, across restarts and processes; one that fails delays no other."""

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from sqlalchemy import insert

from service import operations
from service.domain.records import Event, SinkProgress, SinkStatus
from service.outputs.following import (
    MOST_REFUSALS,
    EventBlock,
    EventFollower,
    EventRefused,
    Sink,
    SinkLease,
    SinkTaken,
    SinkThread,
    Undelivered,
)
from service.store import Store, queries
from service.store.schema import event, study
from tests.outputs.receiver import wait_until
from tests.web.laboratory import Laboratory

Got = tuple[str, int]
LEASE_SECONDS = 1.0


class Recorder:
    """A sink that keeps what it got. `hinder` may raise or block before an event is kept."""

    from_start: ClassVar[bool] = True

    def __init__(self, name: str = "recorder", hinder: Callable[[Event], None] = lambda _: None) -> None:
        self.name = name
        self.got = list[Got]()
        self._hinder = hinder

    def deliver(self, block: EventBlock) -> Iterator[SinkProgress]:
        for one in block.events:
            self._hinder(one)
            self.got.append((block.name, one.seq))
            yield SinkProgress(block.study, one.seq, 1)

    def close(self) -> None:
        pass


class LateRecorder(Recorder):
    from_start: ClassVar[bool] = False


@contextmanager
def following(store: Store, *sinks: Sink) -> Iterator[EventFollower]:
    follower = EventFollower(store, sinks, LEASE_SECONDS)
    follower.start()
    wait_until(lambda: {one.name for one in sinks} <= {one.name for one in store.read(queries.sinks)})
    try:
        yield follower
    finally:
        follower.stop()


def status_of(store: Store, name: str = "recorder") -> SinkStatus:
    (found,) = [one for one in store.read(queries.sinks) if one.name == name]
    return found


def has_owner(store: Store) -> bool:
    found = store.read(queries.find_sink, "recorder")
    return found is not None and found.owner is not None


def all_events(store: Store) -> list[Got]:
    return sorted((one.name, seq) for one in store.read(queries.studies) for seq in range(1, one.seq + 1))


def thread_of(store: Store, sink: Sink, lease: SinkLease) -> SinkThread:
    return SinkThread(store, sink, lease, threading.Event())


def owned(store: Store, sink: Sink, clock: Callable[[], float] = time.monotonic) -> SinkLease:
    operations.register_sink(store, sink.name, from_start=sink.from_start)
    lease = SinkLease(store, sink.name, LEASE_SECONDS, clock)
    lease.tend()
    return lease


def test_a_sink_gets_all_events_of_all_studies_in_order_and_new_ones_as_they_come(lab: Laboratory) -> None:
    lab.study("first"), lab.study("second")
    sink = Recorder()
    with following(lab.store, sink):
        lab.finish(lab.claim(), 0.5)
        wait_until(lambda: sorted(sink.got) == all_events(lab.store))
        lab.stop_all()
        wait_until(lambda: sorted(sink.got) == all_events(lab.store))
    assert [seq for name, seq in sink.got if name == "first"] == sorted(seq for name, seq in sink.got if name == "first")
    status = status_of(lab.store)
    assert (status.delivered, status.backlog, status.failures, status.error, status.owner) == (len(sink.got), 0, 0, None, None)


def test_a_sink_may_begin_with_the_present(lab: Laboratory) -> None:
    lab.study("old")
    sink = LateRecorder()
    with following(lab.store, sink):
        wait_until(lambda: has_owner(lab.store))
        lab.study("new")
        wait_until(lambda: bool(sink.got) and status_of(lab.store).backlog == 0)
    assert {name for name, _ in sink.got} == {"new"}


def test_nothing_is_lost_or_sent_twice_over_a_restart(lab: Laboratory) -> None:
    lab.study("one")
    sink = Recorder()
    for _ in range(3):
        with following(lab.store, sink):
            wait_until(lambda: len(sink.got) == len(all_events(lab.store)))
        lab.finish(lab.claim(), 0.5)
    with following(lab.store, sink):
        wait_until(lambda: len(sink.got) == len(all_events(lab.store)))
    assert sink.got == all_events(lab.store)


def test_of_two_processes_one_delivers(lab: Laboratory) -> None:
    lab.study("one")
    first, second = Recorder(), Recorder()
    with following(lab.store, first):
        wait_until(lambda: has_owner(lab.store))
        with following(lab.store, second):
            lab.finish(lab.claim(), 0.5)
            wait_until(lambda: len(first.got) == len(all_events(lab.store)))
            time.sleep(2 * LEASE_SECONDS)
            assert second.got == []
    assert first.got == all_events(lab.store)


def test_a_sink_of_a_dead_process_is_taken_once_its_counter_stood_still_for_a_lease(lab: Laboratory) -> None:
    now = [0.0]
    dead = owned(lab.store, Recorder())
    waiting = SinkLease(lab.store, "recorder", LEASE_SECONDS, lambda: now[0])
    for _ in range(3):  # while it renews, the other waits for ever
        dead.tend()
        waiting.tend()
        now[0] += LEASE_SECONDS
        assert not waiting.is_held
    dead.tend()
    waiting.tend()
    held_after = 0.0
    while not waiting.is_held:
        now[0] += LEASE_SECONDS / 6
        held_after += LEASE_SECONDS / 6
        waiting.tend()
    assert LEASE_SECONDS <= held_after <= 1.5 * LEASE_SECONDS
    dead.tend()
    assert not dead.is_held


def test_a_suspended_process_does_not_take_a_sink_that_is_alive(lab: Laboratory) -> None:
    now = [0.0]
    owned(lab.store, Recorder())
    waiting = SinkLease(lab.store, "recorder", LEASE_SECONDS, lambda: now[0])
    waiting.tend()
    now[0] += 1000 * LEASE_SECONDS  # half a lease counts, since no beat could be observed
    waiting.tend()
    assert not waiting.is_held


def test_an_owner_that_cannot_renew_stops_before_another_process_can_take_over(lab: Laboratory) -> None:
    now = [0.0]
    lease = owned(lab.store, Recorder(), lambda: now[0])
    now[0] = 0.6 * LEASE_SECONDS
    assert lease.is_held
    now[0] = 0.7 * LEASE_SECONDS
    assert not lease.is_held


def test_an_owner_that_lost_its_sink_changes_no_cursor(lab: Laboratory) -> None:
    lab.study("one")

    def lose(one: Event) -> None:
        if one.seq == 2:  # as if this process were suspended here, and another one took the sink
            operations.release_sink(lab.store, "recorder", lease.owner)

    sink = Recorder(hinder=lose)
    lease = owned(lab.store, sink)
    with pytest.raises(SinkTaken):
        thread_of(lab.store, sink, lease).deliver_all()
    (late,) = lab.store.read(queries.sink_backlog, "recorder")
    assert (late.cursor, status_of(lab.store).delivered) == (1, 1)
    another = Recorder()
    thread_of(lab.store, another, owned(lab.store, another)).deliver_all()
    assert another.got == all_events(lab.store)[1:]


def test_a_sink_that_hangs_or_fails_delays_no_other_and_its_failures_are_visible(lab: Laboratory) -> None:
    released, broken = threading.Event(), [True]

    def hang(_: Event) -> None:
        released.wait(60)

    def fail(_: Event) -> None:
        if broken[0]:
            raise Undelivered("the receiver answered 500")

    sinks = [Recorder("hanging", hang), Recorder("failing", fail), Recorder("sound")]
    lab.study("one")
    with following(lab.store, *sinks):
        for _ in range(3):
            lab.finish(lab.claim(), 0.5)
        wait_until(lambda: len(sinks[2].got) == len(all_events(lab.store)))
        wait_until(lambda: status_of(lab.store, "failing").failures >= 3)
        failing, hanging = status_of(lab.store, "failing"), status_of(lab.store, "hanging")
        assert (failing.error, failing.delivered, failing.backlog) == ("the receiver answered 500", 0, len(all_events(lab.store)))
        time.sleep(2 * LEASE_SECONDS)
        assert status_of(lab.store, "hanging").owner == hanging.owner is not None  # it is renewed while it hangs
        broken[0] = False
        released.set()
        wait_until(lambda: all(one.got == all_events(lab.store) for one in sinks))
    failing = status_of(lab.store, "failing")
    assert (failing.failures, failing.error) == (0, "the receiver answered 500")


def test_an_error_of_a_sink_itself_is_a_failure_that_is_tried_again(lab: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    tries = list[int]()

    def stumble(one: Event) -> None:
        tries.append(one.seq)
        if len(tries) == 1:
            raise KeyError("secret text")

    sink = Recorder(hinder=stumble)
    lab.study("one")
    with following(lab.store, sink):
        wait_until(lambda: len(sink.got) == len(all_events(lab.store)))
    assert status_of(lab.store).error == "internal error (KeyError); see the server's log"
    assert "sink recorder failed" in caplog.text


def test_an_event_that_is_always_refused_is_skipped_after_some_tries_and_counted(lab: Laboratory, caplog: pytest.LogCaptureFixture) -> None:
    tries = list[int]()

    def refuse(one: Event) -> None:
        if one.seq == 2:
            tries.append(one.seq)
            raise EventRefused(one.seq, "the receiver answered 422")

    sink = Recorder(hinder=refuse)
    lab.study("one")
    lab.finish(lab.claim(), 0.5)
    with following(lab.store, sink):
        wait_until(lambda: status_of(lab.store).backlog == 0)
    assert len(tries) == MOST_REFUSALS
    assert sink.got == [one for one in all_events(lab.store) if one[1] != 2]
    assert status_of(lab.store).skipped == 1
    assert f"-2 is skipped after {MOST_REFUSALS} tries: the receiver answered 422" in caplog.text


def test_a_deleted_study_does_not_stop_a_sink(lab: Laboratory) -> None:
    lab.study("gone")

    def delete(one: Event) -> None:
        if one.seq == 2 and lab.store.read(queries.studies, name="gone"):
            operations.delete_study(lab.store, "gone")

    sink = Recorder(hinder=delete)
    with following(lab.store, sink):
        wait_until(lambda: ("gone", 2) in sink.got)
        lab.study("next")
        wait_until(lambda: ("next", 2) in sink.got)
    assert status_of(lab.store).failures == 0


def test_a_sink_that_no_process_has_owned_for_a_month_is_forgotten(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    operations.register_sink(lab.store, "old", from_start=True)
    operations.forget_sinks(lab.store)
    assert [one.name for one in lab.store.read(queries.sinks)] == ["old"]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31 * 24 * 3600)
    operations.forget_sinks(lab.store)
    assert lab.store.read(queries.sinks) == []


def test_a_hundred_thousand_events_are_read_in_blocks(lab: Laboratory) -> None:
    """Their bodies have 50 MB in total; a block has some 100 KB."""
    made, count = lab.study("long"), 100_000
    rows = [
        {"study_id": made.id, "kind": "trial_logged", "at": 1.0, "seq": made.seq + 1 + one, "body": {"t": "x" * 500}}
        for one in range(count)
    ]
    with lab.store.writing() as tx:
        for start in range(0, count, 10_000):
            tx.execute(insert(event), rows[start : start + 10_000])
        tx.execute(study.update().values(seq=made.seq + count))
    del rows
    got = [0]

    class Counter(Recorder):
        def deliver(self, block: EventBlock) -> Iterator[SinkProgress]:
            got[0] += len(block.events)
            yield SinkProgress(block.study, block.events[-1].seq, len(block.events))

    sink = Counter()
    lease = owned(lab.store, sink, lambda: 0.0)
    gc.collect()
    tracemalloc.start()
    try:
        thread_of(lab.store, sink, lease).deliver_all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert got[0] == made.seq + count
    assert peak < 5_000_000, peak
