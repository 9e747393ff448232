"""A round of the confirmation is queued by whoever looks, whether one is open or not."""

from service.operations import completion, confirming
from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_f17_simulation.py"


def plant() -> None:
    def nothing_left(uow: StudyUnitOfWork) -> bool:
        study = uow.study
        return not study.state.terminal and (uow.exhausted or completion.is_spent(study))

    confirming.has_nothing_left = nothing_left  # type: ignore[attr-defined]
