"""Nobody is told that a trial went back to the queue."""

from typing import Any

from service.domain.states import EventKind

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.store.unit_of_work import StudyUnitOfWork

    tell = StudyUnitOfWork.emit

    def silent(self: StudyUnitOfWork, kind: EventKind, **body: Any) -> int:
        seq = tell(self, kind, **body)
        self._events = [one for one in self._events if one["kind"] is not EventKind.TRIAL_REQUEUED]
        return seq

    StudyUnitOfWork.emit = silent  # type: ignore[method-assign]
