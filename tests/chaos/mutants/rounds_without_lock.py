"""A round of the confirmation is queued by every claim that finds no work, whether a round is open or not."""

from service.domain.records import Study
from service.operations import claiming, completion
from service.store import Store
from service.store.unit_of_work import locked

SCENARIO = "tests/chaos/test_f17_simulation.py"


def plant() -> None:
    def carry_on(store: Store, study: Study) -> None:
        with store.writing() as tx, locked(tx, study.id) as uow:
            completion.complete_if_spent(uow)
            if not uow.study.state.terminal and (uow.exhausted or completion.is_spent(uow.study)):
                completion._begin_confirmation(uow) if uow.study.confirmation is None else completion._queue_next_round(uow)

    claiming.carry_on = carry_on  # type: ignore[attr-defined]
