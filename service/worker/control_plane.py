"""The store as a worker sees it: operations that are tried again while it does not answer."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from service import operations
from service.backoff import Backoff
from service.domain.errors import LeaseLost, StoreUnavailable
from service.domain.records import Claim, Lease, Study
from service.operations import Searches, Write
from service.search.study import Decision
from service.store import Store, queries
from service.worker.spool import Spool
from trainer.contract import Facts

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.2, 5.0  # seconds


class ControlPlane:
    """Claims, decisions and writes of one worker, for all its slots. Safe to share between threads."""

    def __init__(self, store: Store, worker: str, spool: Spool) -> None:
        self.store = store
        self.worker = worker
        self._spool = spool
        self._searches = Searches()

    def unchecked(self) -> Study | None:
        """A study whose data and weights nobody has looked at yet. Raises StoreUnavailable."""
        return self.store.read(queries.unchecked_study)

    def claim(self) -> Claim | None:
        """A trial to run, or None when there is none. Raises StoreUnavailable."""
        claims = operations.claim(self.store, self._searches, self.worker, limit=1)
        return claims[0] if claims else None

    def decide(self, lease: Lease, values: Mapping[int, float]) -> Decision | None:
        """The pruner's word; None when the lease is lost. Raises StoreUnavailable."""
        try:
            return operations.decide(self.store, self._searches, lease, values)
        except LeaseLost:
            return None

    def objective_so_far(self, claim: Claim) -> dict[int, float]:
        """The objective at each step that the store knows of the trial. Raises StoreUnavailable."""
        metrics = self.store.read(queries.metrics, claim.lease.trial)
        return {metric.step: metric.value for metric in metrics if metric.name == claim.spec.objective.metric}

    def record(self, write: Write) -> bool:
        """Write once; False when the lease is lost. Raises StoreUnavailable."""
        return not operations.record(self.store, [write])

    def conclude(self, write: Write, leaving: threading.Event) -> bool:
        """Write a trial's last word; False when the lease is lost.

        While the store does not answer, it lies in the spool. When the worker leaves meanwhile, it stays there for the next start.
        """
        try:
            return self.record(write)
        except StoreUnavailable:
            self._spool.keep(write)
        delivered = patiently(lambda: self.record(write), leaving)
        if delivered is not None:
            self._spool.forget(write.lease)
        return delivered is not False

    def deliver_spooled(self) -> None:
        """Write what earlier workers left in the spool; what belongs to a later attempt by now is dropped. Raises StoreUnavailable."""
        for write in self._spool.kept():
            taken = self.record(write)
            log.info("a spooled result of trial %d was %s", write.lease.number, "written" if taken else "too late")
            self._spool.forget(write.lease)

    def pass_check(self, study: Study, facts: Facts) -> None:
        """Data and weights are sound. Raises StoreUnavailable."""
        operations.pass_check(self.store, study.id, facts)

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
