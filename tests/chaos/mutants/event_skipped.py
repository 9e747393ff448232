"""Nobody is told that a trial went back to the queue."""

from typing import Any

from service.domain.states import EventKind

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.store.unit_of_work import Ledger

    tell = Ledger.tell

    def silent(self: Ledger, kind: EventKind, **body: Any) -> int:
        seq = tell(self, kind, **body)
        self._events = [one for one in self._events if one["kind"] is not EventKind.TRIAL_REQUEUED]
        return seq

    Ledger.tell = silent  # type: ignore[method-assign]
