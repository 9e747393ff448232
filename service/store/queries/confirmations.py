"""Reads of a confirmation: the configurations under comparison, and the trials that train them again."""

from collections.abc import Collection

from sqlalchemy import func, select

from service.domain.records import CONFIRMATION, Trial
from service.domain.states import TrialState
from service.store.engine import Transaction
from service.store.rows import trial_of
from service.store.schema import trial


def numbered(tx: Transaction, study_id: str, numbers: Collection[int]) -> list[Trial]:
    """The study's trials of those numbers, by number."""
    query = select(trial).where(trial.c.study_id == study_id, trial.c.number.in_(numbers)).order_by(trial.c.number)
    return [trial_of(row) for row in tx.execute(query)]


def repeats(tx: Transaction, study_id: str) -> list[Trial]:
    """The trials of the study's confirmation, by number."""
    query = select(trial).where(trial.c.study_id == study_id, trial.c.source == CONFIRMATION).order_by(trial.c.number)
    return [trial_of(row) for row in tx.execute(query)]


def count_repeats(tx: Transaction, study_id: str) -> dict[TrialState, int]:
    """How many trials of the study's confirmation there are in each state; every state is named."""
    mine = (trial.c.study_id == study_id) & (trial.c.source == CONFIRMATION)
    counted = {state: count for state, count in tx.execute(select(trial.c.state, func.count()).where(mine).group_by(trial.c.state))}
    return {state: counted.get(state, 0) for state in TrialState}
