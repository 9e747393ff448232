"""A worker or server on a disk that is nearly full, or full, while a file says so: SQLite may not grow, nothing can be flushed.

What the control plane could not write for want of room is noted.
"""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, event

from service import operations
from service.domain.errors import DiskFull
from service.domain.records import Claim, Lease, Study
from service.operations import Searches, Write
from service.store import Store
from tests.chaos.faults import toy_full_disk
from tests.chaos.history import note

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

NO_BOUND = 2**30


def install() -> None:
    toy_full_disk.shrink()
    event.listen(Engine, "begin", _bound, insert=True)
    fsync, record, claim = os.fsync, operations.record, operations.claim_together

    def flushing(fd: "FileDescriptorLike") -> None:
        if toy_full_disk.state() == "full":
            number = fd if isinstance(fd, int) else fd.fileno()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(Path(f"/proc/self/fd/{number}").readlink()))
        fsync(fd)

    def recording(store: Store, writes: Sequence[Write]) -> list[Lease]:
        try:
            return record(store, writes)
        except DiskFull:
            for write in writes:
                note("no room", number=write.lease.number, outcome=write.outcome and type(write.outcome).__name__.lower())
            raise

    def claiming(
        store: Store,
        searches: Searches,
        worker: str,
        lane_bytes: int,
        accepts: Callable[[Study], bool] = lambda study: True,
        device_bytes: int = 0,
    ) -> list[Claim]:
        try:
            return claim(store, searches, worker, lane_bytes, accepts, device_bytes)
        except DiskFull:
            note("no room", number=None, outcome="claim")
            raise

    os.fsync, operations.record, operations.claim_together = flushing, recording, claiming


def _bound(connection: Connection) -> None:
    """The database file may not grow: a real SQLITE_FULL. A bound below its present size is taken as that size."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA max_page_count = {1 if toy_full_disk.state() == 'full' else NO_BOUND}")
