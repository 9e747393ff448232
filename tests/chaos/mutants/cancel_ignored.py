"""A trial that runs is not cancelled, although the person who asked for it is told so."""

from service.domain.records import Trial
from service.domain.states import TrialState
from service.operations import Idempotency
from service.store import Store, queries

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service import operations

    cancel_trial = operations.cancel_trial

    def ignored(store: Store, study: str, number: int, idempotency: Idempotency | None = None) -> Trial:
        trial = store.read(queries.find_trial, study, number)
        return trial if trial.state is TrialState.RUNNING else cancel_trial(store, study, number, idempotency)

    operations.cancel_trial = ignored
