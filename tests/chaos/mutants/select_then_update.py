"""A waiting trial is looked for in one transaction and taken in the next, without a look whether it still waits."""

from service.domain.records import Claim, Study
from service.domain.states import TrialState
from service.store import Store, queries

SCENARIO = "tests/chaos/test_f14_contention.py -k everyone"


def plant() -> None:
    from service.operations import claiming
    from service.operations.starting import claim_of, start
    from service.store.ledger import locked

    def claim_waiting(store: Store, study: Study, worker: str, limit: int) -> list[Claim]:
        waiting = store.read(queries.trials, study.id, states=[TrialState.QUEUED], limit=limit)
        with store.writing() as tx, locked(tx, study.id) as ledger:
            started = [start(ledger, trial, worker) for trial in ledger.trials([one.id for one in waiting]).values()]
        return [claim_of(study, trial) for trial in started]

    claiming._claim_waiting = claim_waiting
