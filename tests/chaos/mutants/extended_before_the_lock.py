"""A change of the budget is worked out from the budget that was read before the study was locked."""

from service.domain.budgets import BudgetChange
from service.domain.records import Study
from service.operations.idempotency import Idempotency
from service.store import Store, queries

SCENARIO = "tests/chaos/test_f20_reopening.py -k sqlite"


def plant() -> None:
    import time

    from service import operations
    from service.domain.budgets import BudgetFields

    extend = operations.extend_study

    def hastily(store: Store, study: str, change: BudgetChange, idempotency: Idempotency | None = None) -> Study:
        before = store.read(queries.find_study, study)
        wanted = change.applied(before.spec.budget, created=before.created, hours_used=0.0)
        time.sleep(0.3)  # so that the others have read it too
        return extend(store, study, BudgetChange(budget=BudgetFields(trials=wanted.trials)), idempotency)

    operations.extend_study = hastily
