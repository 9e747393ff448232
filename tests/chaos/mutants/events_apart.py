"""Events get their numbers with the change they tell of, and are committed a little later, in a transaction of their own."""

import os
import random
import threading
from typing import Any

from sqlalchemy import insert

SCENARIO = "tests/chaos/test_f05_sse.py -k 'follower and sqlite'"


def plant() -> None:
    if (url := os.environ.get("THAW_DATABASE_URL")) is None:  # the test's own process writes soundly
        return
    from service.store import open_store
    from service.store.schema import event
    from service.store.unit_of_work import StudyUnitOfWork

    store, write = open_store(url), StudyUnitOfWork.flush

    def tell(events: list[dict[str, Any]]) -> None:
        with store.writing() as tx:
            tx.execute(insert(event), events)

    def apart(self: StudyUnitOfWork) -> None:
        events, self._events = self._events, []
        write(self)
        if events:
            threading.Timer(random.uniform(0, 0.3), tell, (events,)).start()

    StudyUnitOfWork.flush = apart  # type: ignore[method-assign]
