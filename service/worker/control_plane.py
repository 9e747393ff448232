"""The store as a worker sees it: operations that are tried again while it does not answer."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from service import operations
from service.backoff import Backoff
from service.domain.errors import LeaseLost, StoreUnavailable, StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.records import Claim, Lease, Study
from service.operations import Searches, Write
from service.search.study import Decision
from service.store import Store, queries
from service.worker.checkpoints import Shelf
from service.worker.spool import Spool
from service.worker.unavailable import UnavailableStudies
from trainer.protocol import Checked, Checkpoint

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.2, 5.0  # seconds


class ControlPlane:
    """Claims, decisions and writes of one worker, for all its slots. Safe to share between threads."""

    def __init__(self, store: Store, worker: str, spool: Spool, lane_bytes: int = 0) -> None:
        """`lane_bytes` bounds the memory of trials that are trained together; 0 for each alone."""
        self.store = store
        self.worker = worker
        self._lane_bytes = lane_bytes
        self._spool = spool
        self._told_set_aside = 0  # results, as the store has it
        self._searches = Searches()
        self.unavailable = UnavailableStudies(store, worker)

    def look(self, checking: Collection[str] = ()) -> tuple[bool, Study | None]:
        """Whether this worker shall take no more trials; and a study whose data and weights are to be checked, other than `checking`.

        Raises StoreUnavailable.
        """
        with self.store.reading() as tx:
            return queries.is_draining(tx, self.worker), queries.unchecked_study(tx, {*checking, *self.unavailable.ids()})

    def wants_check(self, study: Study) -> bool:
        """Whether the study is still there and has not ended. Raises StoreUnavailable."""
        try:
            return not self.store.read(queries.find_study, study.id).state.terminal
        except (StudyNotFound, StudyUnreadable):
            return False

    def has_work(self) -> bool:
        """Whether a claim would find a trial, as far as a glance tells. Raises StoreUnavailable."""
        without = self.unavailable.ids()
        return any(one.has_work and one.study.id not in without for one in self.store.read(queries.candidates))

    def claim(self) -> list[Claim]:
        """Trials to run together on one trainer: none, one, or several of one study. Raises StoreUnavailable."""
        return operations.claim_together(self.store, self._searches, self.worker, self._lane_bytes, self.unavailable.ids())

    def decide(self, asked: Sequence[tuple[Lease, Mapping[int, float]]]) -> list[Decision | None]:
        """The pruner's word for each trial, given its objective by step; None where the lease is lost. Raises StoreUnavailable."""
        answers = operations.decide_many(self.store, self._searches, asked)
        return [None if isinstance(answer, LeaseLost) else answer for answer in answers]

    def objective_so_far(self, claim: Claim) -> dict[int, float]:
        """The objective at each step that the store knows of the trial. Raises StoreUnavailable."""
        metrics = self.store.read(queries.metrics, claim.lease.trial)
        return {metric.step: metric.value for metric in metrics if metric.name == claim.spec.objective.metric}

    def record(self, writes: Sequence[Write]) -> list[Lease]:
        """Write all of it in one transaction; the leases that are lost come back. Raises StoreUnavailable.

        While the store does not answer, ends of trials among it lie in the spool. An end of which the database does not know the
        trial is set aside.
        """
        ends = [write for write in writes if write.outcome is not None]
        try:
            lost = operations.record(self.store, writes)
            refused = [write.lease for write in ends if write.lease in lost]
            strangers = self.store.read(queries.strangers, refused) if refused else {}
        except StoreUnavailable:
            for write in ends:
                self._spool.keep(write)
            raise
        for write in ends:
            if (why := strangers.get(write.lease)) is not None:
                self._spool.set_aside(write, why)
            else:
                self._spool.forget(write.lease)
        return lost

    def conclude(self, writes: Sequence[Write], leaving: threading.Event) -> list[Lease] | None:
        """Write what ends a run, however long the store takes to answer; the leases that are lost come back.

        None when the worker leaves meanwhile: then it stays in the spool for the next start.
        """
        return patiently(lambda: self.record(writes), leaving)

    def deliver_spooled(self, *, again: bool = False) -> None:
        """Write what earlier workers left in the spool; with `again` also try what was set aside. Raises StoreUnavailable.

        A result of an attempt that a later one has replaced is dropped; see `record` for one whose trial is unknown.
        """
        for write in self._spool.kept(again=again):
            if not self.record([write]):
                log.info("a spooled result of trial %d was written", write.lease.number)
        if (count := self._spool.count_set_aside()) != self._told_set_aside:
            operations.count_set_aside(self.store, self.worker, count)
            self._told_set_aside = count

    def checkpoints(self, lease: Lease) -> tuple[Checkpoint, ...]:
        """Those that the store names of the trial. Raises StoreUnavailable."""
        try:
            return self.store.read(queries.find_trial, lease.study, lease.number).checkpoints
        except TrialNotFound:  # the study was deleted
            return ()

    def tidy(self, shelf: Shelf, lease: Lease) -> None:
        """Remove the files that the store does not name now that the run is over; the sweep does it when the store does not answer."""
        try:
            shelf.tidy(self.store, lease.study, lease.number)
        except StoreUnavailable as error:
            log.info("the checkpoints of trial %d are looked through later: %s", lease.number, error)

    def pass_check(self, study: Study, found: Checked) -> None:
        """Data and weights are sound. Raises StoreUnavailable."""
        operations.pass_check(self.store, study.id, found.facts, found.manifest)

    def fail_study(self, study: Study, reason: str) -> None:
        """The study cannot run. Raises StoreUnavailable."""
        operations.fail_study(self.store, study.id, reason)

    def heartbeat(self, leases: Sequence[Lease]) -> list[Lease]:
        """Renew; the lost ones come back. Raises StoreUnavailable."""
        return operations.heartbeat(self.store, self.worker, leases)


def patiently(call: Callable[[], T], leaving: threading.Event) -> T | None:
    """The call's answer, tried again with jitter while the store is unavailable; None when the worker leaves before it answers."""
    backoff = Backoff(FIRST_RETRY, LAST_RETRY)
    complained_at: float | None = None
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            if complained_at is None or time.monotonic() - complained_at > 60:
                log.warning("the store does not answer (%s); trying again", error)
                complained_at = time.monotonic()
        if leaving.wait(backoff.delay()):
            return None
