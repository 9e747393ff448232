"""A server whose patience with its clients, and theirs with it, is seconds instead of half-minutes; reads hang while a file is there."""

import os
import time
from pathlib import Path

from service.store import Store
from service.web import events, requests, serve
from service.web.events import Batch, EventNotifier

KEEP_ALIVE_SECONDS, HEAD_SECONDS, TAKING_SECONDS, BODY_SECONDS = 2.0, 5.0, 5.0, 5.0
FLAG = "THAW_CHAOS_READS_HANG"  # the file


def install() -> None:
    events.KEEP_ALIVE_SECONDS = KEEP_ALIVE_SECONDS
    serve.HEAD_SECONDS, serve.TAKING_SECONDS = HEAD_SECONDS, TAKING_SECONDS
    max_bytes, _, larger = requests.BodyLimitMiddleware.__init__.__defaults__ or ()
    requests.BodyLimitMiddleware.__init__.__defaults__ = (max_bytes, BODY_SECONDS, larger)
    if flag := os.environ.get(FLAG):
        _hang_while(Path(flag))


def _hang_while(flag: Path) -> None:
    read, look = events._read, EventNotifier.look

    def hang() -> None:
        while flag.exists():
            time.sleep(0.05)

    def hanging(store: Store, study: str, cursor: int, limit: int) -> Batch:
        hang()
        return read(store, study, cursor, limit)

    def looking(self: EventNotifier) -> None:
        hang()
        look(self)

    events._read = hanging
    EventNotifier.look = looking  # type: ignore[method-assign]
