"""A trial that has lost its process or its worker goes back to the queue, however often it has happened."""

from service.domain.states import AttemptEnd
from service.store.rows import HeldTrial
from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_failures.py -k 'takes_down and sqlite'"


def plant() -> None:
    from service.operations import recording
    from service.operations.completion import requeue

    def always(uow: StudyUnitOfWork, trial: HeldTrial, reason: str, why: str) -> HeldTrial:
        return requeue(uow, trial, AttemptEnd(reason), why)

    recording._retry_or_fail = always
