"""The study is complete when its search is, whatever it promised to confirm."""

from service.operations import completion
from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_f17_simulation.py"


def plant() -> None:
    def complete_if_spent(uow: StudyUnitOfWork) -> None:
        if completion.has_nothing_left(uow):
            completion.complete(uow)

    completion.complete_if_spent = complete_if_spent
