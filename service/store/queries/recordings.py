"""What a replay of a study's pruning reads: its trials in short, and all reports of the objective in columns."""

from array import array
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, select

from service.domain.recordings import Recorded, Recording, Reports
from service.domain.records import CONFIRMATION, Study
from service.domain.spec import StudySpec
from service.domain.states import TrialState
from service.store.codec import number_of
from service.store.engine import Transaction
from service.store.queries.savings import lanes_of, told_number
from service.store.queries.studies import find_study
from service.store.schema import metric, trial
from trainer.configuration import TrainConfig

MOST_REPORTS = 1_000_000  # a few seconds, and tens of megabytes
AT_ONCE = 20_000

IN_SHORT = select(
    trial.c.id, trial.c.number, trial.c.state, trial.c.value, trial.c.step, trial.c.params, trial.c.changed, trial.c.duplicate_of,
    trial.c.worker, trial.c.started_at, lanes_of(trial).label("lanes"), told_number(trial, "pace", "seconds_left").label("seconds_left"),
)  # fmt: skip


def recording(tx: Transaction, study_id: str, most: int = MOST_REPORTS) -> Recording:
    """The study's search as it stands; without its reports when there are more than `most`. Raises StudyNotFound, StudyUnreadable."""
    study = find_study(tx, study_id)
    searched = (trial.c.study_id == study.id) & (trial.c.source != CONFIRMATION)
    trials = [_recorded(row, study.spec) for row in tx.execute(IN_SHORT.where(searched).order_by(trial.c.number))]
    count = tx.execute(select(func.coalesce(func.sum(trial.c.step), 0)).where(searched)).scalar_one()
    return Recording(
        spec=study.spec,
        partial=not study.state.terminal and study.confirmation is None,
        trials=trials,
        reports=_reports(tx, study) if count <= most else None,
    )


def _recorded(row: Row[*tuple[Any, ...]], spec: StudySpec) -> Recorded:
    state, shared = TrialState(row.state), row.lanes > 1
    return Recorded(
        id=row.id,
        number=row.number,
        state=state,
        value=row.value,
        step=row.step,
        epochs=max(row.step, epochs_of(spec, row.params)),
        ended=row.changed if state.terminal else None,
        duplicate_of=row.duplicate_of,
        shared=f"{row.worker} {row.started_at}" if shared else None,
        seconds_left=None if row.seconds_left is None else float(row.seconds_left) / row.lanes,
    )


def epochs_of(spec: StudySpec, params: Mapping[str, Any]) -> int:
    """The epochs that a trial with these parameters is to have."""
    return int({**spec.fixed, **params}.get("epochs", TrainConfig.model_fields["epochs"].default))


def _reports(tx: Transaction, study: Study) -> Reports:
    query = (
        select(metric.c.trial, metric.c.step, metric.c.value, metric.c.kind, metric.c.seq)
        .join(trial, metric.c.trial == trial.c.id)
        .where(trial.c.study_id == study.id, trial.c.source != CONFIRMATION, metric.c.name == study.spec.objective.metric)
    )
    told = Reports(array("q"), array("q"), array("d"), array("q"))
    points: Any = tx.execute(query).cursor  # plain tuples: a third of the time
    while chunk := points.fetchmany(AT_ONCE):
        trials, steps, values, kinds, seqs = zip(*chunk, strict=True)
        numbers = values if None not in values else map(number_of, values, kinds)
        for column, new in zip(told, (trials, steps, numbers, seqs), strict=True):
            column.extend(new)  # type: ignore[attr-defined]  # arrays, all of them
    return told
