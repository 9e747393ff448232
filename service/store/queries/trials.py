"""Reads of trials and their metrics."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from service.domain.errors import TrialNotFound
from service.domain.records import CONFIRMATION, Lease, Metric, Study, Trial
from service.domain.spec import MAX_NUMBER
from service.domain.states import TrialState, ValueKind
from service.store.dialect import WithoutKeys
from service.store.engine import Transaction
from service.store.rows import lease_of, metric_of, trial_of
from service.store.schema import metric, trial
from trainer.tasks.registry import report_fields

Sort = Literal[
    "number", "-number", "value", "-value", "step", "-step", "queued_at", "-queued_at",
    "started_at", "-started_at", "finished_at", "-finished_at",
]  # fmt: skip
"""The column that a page of trials is sorted by; `-` reverses the order. Trials without the value come last."""


def in_a_list() -> list[ColumnElement[Any]]:
    """The columns of a trial, its result without the reports of the tasks.

    A report may have megabytes; it is read for a single trial, and left out where many are read.
    """
    large = tuple(sorted({*report_fields(), "test"}))
    return [WithoutKeys(column, large).label("result") if column is trial.c.result else column for column in trial.c]


def find_trial(tx: Transaction, study_id: str, number: int) -> Trial:
    """The study's trial of that number. Raises TrialNotFound."""
    row = None
    if 0 <= number < MAX_NUMBER:
        row = tx.execute(select(trial).where(trial.c.study_id == study_id, trial.c.number == number)).one_or_none()
    if row is None:
        raise TrialNotFound(number)
    return trial_of(row)


def trials(
    tx: Transaction,
    study_id: str,
    *,
    states: Sequence[TrialState] = (),
    sort: Sort = "number",
    limit: int = 100,
    after: int | None = None,
) -> list[Trial]:
    """A page of sorted trials; `after` is the number of the last trial of the page before.

    No states means all. Equal values stand by number. Their results lack the reports.
    Raises TrialNotFound when `after` is no trial of the study.
    """
    falls = sort.startswith("-")
    column = trial.c[sort.removeprefix("-")]
    query = select(*in_a_list()).where(trial.c.study_id == study_id)
    if states:
        query = query.where(trial.c.state.in_(states))
    if after is not None:
        query = query.where(_beyond(column, falls, find_trial(tx, study_id, after)))
    by_column = column.desc() if falls else column.asc()
    ordered = query.order_by(column.is_(None), by_column, trial.c.number)
    return [trial_of(row) for row in tx.execute(ordered.limit(limit))]


def _beyond(column: ColumnElement[float], falls: bool, last: Trial) -> ColumnElement[bool]:
    value = getattr(last, str(column.key))
    later = trial.c.number > last.number
    if value is None:
        return and_(column.is_(None), later)
    return or_(column < value if falls else column > value, and_(column == value, later), column.is_(None))


def best_trial(tx: Transaction, study: Study) -> Trial | None:
    """The complete trial of the search with the best finite value; of equal ones the first. Its result is whole."""
    best = best_trials(tx, [study]).get(study.id)
    return None if best is None else find_trial(tx, study.id, best.number)


def best_trials(tx: Transaction, studies: Iterable[Study]) -> dict[str, Trial]:
    """The best trial of each study that has one, by the study's key. Their results lack the reports."""
    falling = {study.id: study.spec.objective.direction == "maximize" for study in studies}
    loss = case((trial.c.study_id.in_([key for key, falls in falling.items() if falls]), -trial.c.value), else_=trial.c.value)
    place = func.row_number().over(partition_by=trial.c.study_id, order_by=(loss, trial.c.number))
    searched = trial.c.source != CONFIRMATION
    finite = (trial.c.state == TrialState.COMPLETE) & (trial.c.value_kind == ValueKind.FINITE) & searched
    ranked = select(trial.c.id, place.label("place")).where(trial.c.study_id.in_(list(falling)), finite).subquery()
    query = select(*in_a_list()).join(ranked, ranked.c.id == trial.c.id).where(ranked.c.place == 1)
    return {row.study_id: trial_of(row) for row in tx.execute(query)}


def metrics(tx: Transaction, trial_id: int) -> list[Metric]:
    """All that a trial reported, by step and name. The key is `Trial.id`."""
    query = select(metric).where(metric.c.trial == trial_id).order_by(metric.c.step, metric.c.name)
    return [metric_of(row) for row in tx.execute(query)]


RUNNING_LEASES = select(trial.c.id, trial.c.study_id, trial.c.number, trial.c.attempt, trial.c.worker, trial.c.heartbeat).where(
    trial.c.state == TrialState.RUNNING
)


def running_leases(tx: Transaction) -> list[tuple[Lease, int]]:
    """Every lease of every study, with the heartbeats counted on it."""
    return [(lease_of(row), row.heartbeat) for row in tx.execute(RUNNING_LEASES)]
