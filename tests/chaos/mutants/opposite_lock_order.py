"""Who cancels a trial locks its row first and the study's row then; all others lock them the other way round."""

from sqlalchemy import select

from service.domain.records import Trial
from service.domain.states import TrialState
from service.operations import Idempotency
from service.store import Store
from service.store.schema import trial

SCENARIO = "tests/chaos/test_f14_contention.py -k 'everyone and postgresql'"


def plant() -> None:
    from service import operations
    from service.domain.errors import TrialClosed
    from service.operations.completion import end, finalize
    from service.store.unit_of_work import locked

    def cancel(store: Store, study: str, number: int, idempotency: Idempotency | None = None) -> Trial:
        mine = select(trial.c.id).where(trial.c.study_id == study, trial.c.number == number).with_for_update()
        with store.writing() as tx:
            tx.execute(mine)
            with locked(tx, study) as uow:
                held = uow.numbered(number)
                if held.state.terminal:
                    raise TrialClosed("It has ended.")
                cancelled = end(uow, held, TrialState.CANCELLED)
                finalize(uow)
        return cancelled

    operations.cancel_trial = cancel
