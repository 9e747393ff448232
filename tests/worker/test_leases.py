"""Leases whose trials share a trainer: one that is lost ends alone, those that nobody renews end together."""

import time
from collections.abc import Callable

from service.domain.records import Lease
from service.worker.context import Leases, StopReason
from service.worker.process import TrainerProcess
from trainer.protocol import EpochMetrics, Run

Start = Callable[..., TrainerProcess]
Order = Callable[..., Run]

ONE, OTHER = (Lease(study="5" * 16, trial=trial, number=trial, attempt=1, worker="w") for trial in (1, 2))


def at_work(start: Start, order: Order) -> TrainerProcess:
    process = start("--slow-epoch", "0.05")
    while not process.ready:
        process.read(5)
    process.send(order("endless"))
    while not isinstance(process.read(5), EpochMetrics):
        pass
    return process


def test_a_lost_lease_does_not_end_the_trainer_that_others_share(start: Start, order: Order) -> None:
    process = at_work(start, order)
    leases, begun = Leases(trust_seconds=60), time.monotonic()
    lost, kept = (leases.take(lease, process, begun) for lease in (ONE, OTHER))
    lost.renewed_at = begun - 61
    leases.renewed([ONE, OTHER], lost=[ONE], at=begun)
    leases.end_untrusted()
    assert process.alive
    assert (lost.halt, kept.halt) == (StopReason.LOST, None)


def test_a_trainer_is_killed_when_the_lease_of_one_of_its_trials_may_have_run_out(start: Start, order: Order) -> None:
    process = at_work(start, order)
    leases, begun = Leases(trust_seconds=60), time.monotonic()
    overdue, beside = leases.take(ONE, process, begun), leases.take(OTHER, process, begun)
    overdue.renewed_at = begun - 61
    leases.end_untrusted()
    assert not process.alive
    assert (overdue.halt, beside.halt) == (StopReason.UNTRUSTED, StopReason.UNTRUSTED)


def test_a_trainer_that_works_for_others_by_now_is_left_alone(start: Start, order: Order) -> None:
    process = at_work(start, order)
    leases = Leases(trust_seconds=60)
    former = leases.take(ONE, process, time.monotonic())
    former.renewed_at -= 61
    leases.drop(former)
    leases.take(OTHER, process, time.monotonic())
    leases.end_untrusted()
    assert process.alive


def test_a_claim_that_is_older_than_the_trust_window_trains_nothing(start: Start) -> None:
    process = start()
    leases = Leases(trust_seconds=60)
    held = leases.take(ONE, process, time.monotonic() - 61)
    assert held.halt is StopReason.UNTRUSTED and not process.alive
