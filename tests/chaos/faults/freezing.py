"""A worker that stops itself, once, at a point of its first trial: what a suspended machine looks like to the others.

It never stops inside a transaction: SQLite would let nobody write until it goes on; PostgreSQL ends such a session, another scenario.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from service.domain.errors import StoreUnavailable
from service.domain.records import Claim, Lease
from service.operations import Released, Write
from service.store import Store, Transaction
from service.worker.store_client import StoreClient
from tests.chaos.history import note
from tests.processes import below

POINT, TRAINER_TOO = "THAW_CHAOS_FREEZE_AT", "THAW_CHAOS_FREEZE_TRAINER"


class Freezer:
    """Stops the process when it comes to its point for the first time."""

    def __init__(self, point: str, trainer_too: bool) -> None:
        self._point, self._trainer_too = point, trainer_too
        self._done = False
        self._transaction = threading.RLock()  # held during each transaction of this process

    def apart(
        self, begin: Callable[[Store], AbstractContextManager[Transaction]]
    ) -> Callable[[Store], AbstractContextManager[Transaction]]:
        """The transactions, but never one of them while the process stops."""

        @contextmanager
        def transaction(store: Store) -> Iterator[Transaction]:
            with self._transaction, begin(store) as tx:
                yield tx

        return transaction

    def stop(self) -> None:
        """Stop, this very thread too."""
        with self._transaction:
            if self._trainer_too:
                for pid in below(os.getpid()):
                    os.kill(pid, signal.SIGSTOP)
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    def at(self, point: str, leases: Sequence[Lease]) -> bool:
        """Whether this was the point; returns when the process goes on."""
        if self._done or point != self._point or not leases:
            return False
        self._done = True
        for lease in leases:
            note("frozen", point=point, number=lease.number, attempt=lease.attempt)
        self.stop()
        return True


def install() -> None:
    freezer = Freezer(os.environ[POINT], TRAINER_TOO in os.environ)
    signal.signal(signal.SIGUSR1, lambda *_: freezer.stop())  # its trainer asks for it
    Store.reading, Store.writing = freezer.apart(Store.reading), freezer.apart(Store.writing)  # type: ignore[method-assign, assignment]
    claim, record, heartbeat = StoreClient.claim, StoreClient.record, StoreClient.heartbeat

    def claiming(self: StoreClient, device_bytes: int = 0, *, trains: bool = True) -> list[Claim]:
        claims = claim(self, device_bytes, trains=trains)
        freezer.at("after the claim", [one.lease for one in claims])
        return claims

    def recording(self: StoreClient, writes: Sequence[Write]) -> list[Lease]:
        handed_back = [write.lease for write in writes if isinstance(write.outcome, Released)]
        ended = [write.lease for write in writes if write.outcome is not None and write.lease not in handed_back]
        freezer.at("before a metric", [write.lease for write in writes if write.reports and write.outcome is None])
        freezer.at("before the end", ended)
        freezer.at("during the graceful stop", handed_back)
        lost = record(self, writes)
        if freezer.at("after the end, before its acknowledgement", ended):
            raise StoreUnavailable("the answer was lost meanwhile")
        return lost

    def beating(self: StoreClient, leases: Sequence[Lease]) -> list[Lease]:
        freezer.at("inside a heartbeat", leases)
        return heartbeat(self, leases)

    StoreClient.claim, StoreClient.record, StoreClient.heartbeat = claiming, recording, beating  # type: ignore[method-assign]
