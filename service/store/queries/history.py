"""What a study's search must learn: all that changed since an event, seen in one snapshot."""

from dataclasses import dataclass

from sqlalchemy import select

from service.domain.errors import StudyNotFound
from service.domain.records import CONFIRMATION, Trial
from service.store.codec import number_of
from service.store.engine import Transaction
from service.store.queries.trials import in_a_list
from service.store.rows import study_of, trial_of
from service.store.schema import VISIBLE, metric, study, trial


@dataclass(frozen=True, slots=True)
class History:
    """The study's changes up to event `seq`."""

    seq: int
    created: int  # trials created by then
    trials: list[Trial]  # those of the search that changed, as they stand, by number; their results lack the reports
    values: list[tuple[int, int, float]]  # number, step and objective of every report of those trials


def changed_since(tx: Transaction, study_id: str, seq: int) -> History:
    """The changes after event `seq`. Call it in a reading transaction. Raises StudyNotFound."""
    row = tx.execute(select(study).where(study.c.id == study_id, VISIBLE)).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    owner = study_of(row)
    if owner.seq == seq:
        return History(seq, owner.created, [], [])
    changed = (trial.c.study_id == study_id) & (trial.c.changed > seq) & (trial.c.source != CONFIRMATION)
    trials = [trial_of(row) for row in tx.execute(select(*in_a_list()).where(changed).order_by(trial.c.number))]
    reported = (
        select(trial.c.number, metric.c.step, metric.c.value, metric.c.kind)
        .join(metric, metric.c.trial == trial.c.id)
        .where(changed, metric.c.name == owner.spec.objective.metric)
        .order_by(trial.c.number, metric.c.step)
    )
    values = [(number, step, number_of(value, kind)) for number, step, value, kind in tx.execute(reported)]
    return History(owner.seq, owner.created, trials, values)
