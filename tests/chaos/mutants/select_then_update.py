"""A waiting trial is looked for in one transaction and taken in the next, without a look whether it still waits."""

from service.domain.records import Claim
from service.domain.states import TrialState
from service.operations.claiming import Claimant, Searches
from service.store import Store, queries
from service.store.queries import Candidate

SCENARIO = "tests/chaos/test_f14_contention.py -k everyone"


def plant() -> None:
    from service.operations import claiming
    from service.operations.claiming import claim_of, start
    from service.store.unit_of_work import locked

    claim = claiming._claim_from

    def select_then_update(store: Store, searches: Searches, candidate: Candidate, claimant: Claimant, lane_bytes: int) -> list[Claim]:
        study = candidate.study
        waiting = store.read(queries.trials, study.id, states=[TrialState.QUEUED], limit=1)
        if not waiting:
            return claim(store, searches, candidate, claimant, lane_bytes)
        with store.writing() as tx, locked(tx, study.id) as uow:
            started = [start(uow, trial, claimant.worker) for trial in uow.trials([one.id for one in waiting]).values()]
        return [claim_of(study, trial) for trial in started]

    claiming._claim_from = select_then_update
