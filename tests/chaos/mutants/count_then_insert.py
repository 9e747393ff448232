"""Trials are counted while the sampler thinks, and not again when the new one is inserted."""

from service.domain.records import Study
from service.operations.claiming import CachedSearch, Claimant
from service.store import Store
from service.store.rows import HeldTrial

SCENARIO = "tests/chaos/test_f14_contention.py -k sixteen"


def plant() -> None:
    from service.operations import claiming
    from service.operations.claiming import insert
    from service.store.unit_of_work import locked

    def add(store: Store, cached: CachedSearch, study: Study, claimant: Claimant, lanes: int) -> list[HeldTrial]:
        cached.refresh(store)
        if cached.created >= study.spec.budget.max_trials:
            return []
        suggestions = cached.suggest(1)
        with store.writing() as tx, locked(tx, study.id) as uow:
            return insert(uow, suggestions, claimant.worker)

    claiming._add = add
