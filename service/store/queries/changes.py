"""Trials that have changed, for those who follow a study."""

from sqlalchemy import select

from service.domain.records import Trial
from service.store.engine import Transaction
from service.store.queries.trials import in_a_list
from service.store.rows import trial_of
from service.store.schema import trial


def trials_changed_after(tx: Transaction, study_id: str, seq: int, limit: int = 100) -> list[Trial]:
    """Trials that an event with a higher sequence number touched, as they stand now, in the order of their last events.

    Their results lack the reports.
    """
    query = select(*in_a_list()).where(trial.c.study_id == study_id, trial.c.changed > seq).order_by(trial.c.changed)
    return [trial_of(row) for row in tx.execute(query.limit(limit))]
