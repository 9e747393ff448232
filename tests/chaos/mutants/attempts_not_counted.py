"""A trial that crashes or loses its worker is always tried again."""

from service.domain.states import AttemptEnd
from service.store.rows import HeldTrial
from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.operations import recording
    from service.operations.completion import requeue

    def for_ever(uow: StudyUnitOfWork, trial: HeldTrial, reason: str, why: str) -> HeldTrial:
        return requeue(uow, trial, AttemptEnd(reason), why)

    recording._retry_or_fail = for_ever
