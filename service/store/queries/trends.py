"""How the best value of studies rose."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import case, func, or_, select

from service.domain.records import CONFIRMATION, Study
from service.domain.states import TrialState
from service.store.engine import Transaction
from service.store.schema import trial


def records(tx: Transaction, studies: Iterable[Study]) -> dict[str, list[tuple[int, float]]]:
    """By study's id, the complete trials of the search that were better than all before them: number and value, the first one first.

    Of what many studies measured, only these leave the database.
    """
    known = list(studies)
    minimizing = [study.id for study in known if study.spec.objective.direction == "minimize"]
    worth = case((trial.c.study_id.in_(minimizing), -trial.c.value), else_=trial.c.value)
    before = func.max(worth).over(partition_by=trial.c.study_id, order_by=trial.c.number, rows=(None, -1))
    judged = (
        select(trial.c.study_id, trial.c.number, trial.c.value, worth.label("worth"), before.label("before"))
        .where(
            trial.c.study_id.in_([study.id for study in known]),
            trial.c.state == TrialState.COMPLETE,
            trial.c.value.is_not(None),
            trial.c.source != CONFIRMATION,
        )
        .subquery()
    )
    better = or_(judged.c.before.is_(None), judged.c.worth > judged.c.before)
    found = defaultdict[str, list[tuple[int, float]]](list)
    for owner, number, value in tx.execute(
        select(judged.c.study_id, judged.c.number, judged.c.value).where(better).order_by(judged.c.study_id, judged.c.number)
    ):
        found[owner].append((number, value))
    return found


def completed_since(tx: Transaction, seen: Mapping[str, int]) -> dict[str, list[tuple[int, float]]]:
    """By study's id, number and value of the trials that were completed after the event of that sequence number, in no order."""
    newer = or_(*((trial.c.study_id == owner) & (trial.c.changed > seq) for owner, seq in seen.items()))
    complete = (trial.c.state == TrialState.COMPLETE) & trial.c.value.is_not(None) & (trial.c.source != CONFIRMATION)
    found = defaultdict[str, list[tuple[int, float]]](list)
    for owner, number, value in tx.execute(select(trial.c.study_id, trial.c.number, trial.c.value).where(newer, complete)):
        found[owner].append((number, value))
    return found
