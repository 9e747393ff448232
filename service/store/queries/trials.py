"""Reads of trials, their metrics, attempts and logs."""

from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, bindparam, case, func, or_, select

from service.domain.effects import CurveDigest
from service.domain.errors import ClaimNotFound, StudyNotFound, TrialNotFound
from service.domain.records import (
    CONFIRMATION,
    Attempt,
    Lease,
    LogChunk,
    MetricReport,
    RecordedReports,
    RecordedStudy,
    RecordedTrial,
    ReportedMetric,
    RestClaim,
    Study,
    Trial,
    TrialSummary,
)
from service.domain.spec import MAX_NUMBER, StudySpec
from service.domain.states import AttemptEnd, TrialState, ValueKind
from service.store.codec import number_of
from service.store.dialects import WithoutKeys
from service.store.engine import Transaction
from service.store.queries.studies import find_study, group_size, reported_number
from service.store.rows import lease_of, metric_of, study_of, trial_of
from service.store.schema import VISIBLE, attempt, log, metric, study, trial
from trainer.tasks.registry import report_fields

TrialSort = Literal[
    "number", "-number", "value", "-value", "step", "-step", "queued_at", "-queued_at",
    "started_at", "-started_at", "finished_at", "-finished_at",
]  # fmt: skip
"""The column that a page of trials is sorted by; `-` reverses the order. Trials without the value come last."""


def list_columns() -> list[ColumnElement[Any]]:
    """The columns of a trial with a result without the tasks' reports, which may have megabytes: queries of many trials omit them."""
    large = tuple(sorted({*report_fields(), "test"}))
    return [WithoutKeys(column, large).label("result") if column is trial.c.result else column for column in trial.c]


def find_trial(tx: Transaction, study_id: str, number: int) -> Trial:
    """The study's trial with this number. Raises TrialNotFound."""
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
    sort: TrialSort = "number",
    limit: int = 100,
    after: int | None = None,
) -> list[Trial]:
    """A page of sorted trials, with results without reports. `after` is the number of the last trial of the previous page.

    Empty `states` selects all states. Trials with equal values are sorted by number. Raises TrialNotFound for `after`.
    """
    descending = sort.startswith("-")
    column = trial.c[sort.removeprefix("-")]
    query = select(*list_columns()).where(trial.c.study_id == study_id)
    if states:
        query = query.where(trial.c.state.in_(states))
    if after is not None:
        query = query.where(_following(column, descending, find_trial(tx, study_id, after)))
    by_column = column.desc() if descending else column.asc()
    ordered = query.order_by(column.is_(None), by_column, trial.c.number)
    return [trial_of(row) for row in tx.execute(ordered.limit(limit))]


def _following(column: ColumnElement[float], descending: bool, last: Trial) -> ColumnElement[bool]:
    value = getattr(last, str(column.key))
    later = trial.c.number > last.number
    if value is None:
        return and_(column.is_(None), later)
    return or_(column < value if descending else column > value, and_(column == value, later), column.is_(None))


def best_trial(tx: Transaction, study: Study) -> Trial | None:
    """The complete trial of the search with the best finite value, the first one of equal values, with its whole result."""
    best = best_trials(tx, [study]).get(study.id)
    return None if best is None else find_trial(tx, study.id, best.number)


def best_trials(tx: Transaction, studies: Iterable[Study]) -> dict[str, Trial]:
    """The best trial by study id, with results without reports. Studies without a complete trial are missing."""
    falling = {study.id: study.spec.objective.direction == "maximize" for study in studies}
    loss = case((trial.c.study_id.in_([key for key, descending in falling.items() if descending]), -trial.c.value), else_=trial.c.value)
    place = func.row_number().over(partition_by=trial.c.study_id, order_by=(loss, trial.c.number))
    searched = trial.c.source != CONFIRMATION
    finite = (trial.c.state == TrialState.COMPLETE) & (trial.c.value_kind == ValueKind.FINITE) & searched
    ranked = select(trial.c.id, place.label("place")).where(trial.c.study_id.in_(list(falling)), finite).subquery()
    query = select(*list_columns()).join(ranked, ranked.c.id == trial.c.id).where(ranked.c.place == 1)
    return {row.study_id: trial_of(row) for row in tx.execute(query)}


def metrics(tx: Transaction, trial_id: int) -> list[ReportedMetric]:
    """All metrics of the trial with the key `trial_id` (`Trial.id`), by step and name."""
    query = select(metric).where(metric.c.trial == trial_id).order_by(metric.c.step, metric.c.name)
    return [metric_of(row) for row in tx.execute(query)]


RUNNING_LEASES = select(trial.c.id, trial.c.study_id, trial.c.number, trial.c.attempt, trial.c.worker, trial.c.heartbeat).where(
    trial.c.state == TrialState.RUNNING
)


def running_leases(tx: Transaction) -> list[tuple[Lease, int]]:
    """Every lease of every study, with its heartbeat counter."""
    return [(lease_of(row), row.heartbeat) for row in tx.execute(RUNNING_LEASES)]


def trials_changed_after(tx: Transaction, study_id: str, seq: int, limit: int = 100) -> list[Trial]:
    """Trials that changed after event `seq`, in the order of their last events, with results without reports."""
    query = select(*list_columns()).where(trial.c.study_id == study_id, trial.c.changed > seq).order_by(trial.c.changed)
    return [trial_of(row) for row in tx.execute(query.limit(limit))]


def trials_numbered(tx: Transaction, study_id: str, numbers: Collection[int]) -> list[Trial]:
    """The study's trials with these numbers, by number."""
    query = select(trial).where(trial.c.study_id == study_id, trial.c.number.in_(numbers)).order_by(trial.c.number)
    return [trial_of(row) for row in tx.execute(query)]


def confirmation_trials(tx: Transaction, study_id: str) -> list[Trial]:
    """The trials of the study's confirmation, by number."""
    query = select(trial).where(trial.c.study_id == study_id, trial.c.source == CONFIRMATION).order_by(trial.c.number)
    return [trial_of(row) for row in tx.execute(query)]


def count_confirmation_trials(tx: Transaction, study_id: str) -> dict[TrialState, int]:
    """The number of trials of the study's confirmation by state; zero counts are included."""
    condition = (trial.c.study_id == study_id) & (trial.c.source == CONFIRMATION)
    counted = {state: count for state, count in tx.execute(select(trial.c.state, func.count()).where(condition).group_by(trial.c.state))}
    return {state: counted.get(state, 0) for state in TrialState}


@dataclass(frozen=True, slots=True)
class StudyChanges:
    """The study's changes up to event `seq`."""

    seq: int
    created: int  # trials created by then
    trials: list[Trial]  # changed trials of the search, by number, with results without reports
    values: list[tuple[int, int, float]]  # number, step and objective of every report of those trials


def changed_since(tx: Transaction, study_id: str, seq: int) -> StudyChanges:
    """The changes after event `seq`. Call it in a reading transaction, for one snapshot. Raises StudyNotFound."""
    row = tx.execute(select(study).where(study.c.id == study_id, VISIBLE)).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    owner = study_of(row)
    if owner.seq == seq:
        return StudyChanges(seq, owner.created, [], [])
    changed = (trial.c.study_id == study_id) & (trial.c.changed > seq) & (trial.c.source != CONFIRMATION)
    trials = [trial_of(row) for row in tx.execute(select(*list_columns()).where(changed).order_by(trial.c.number))]
    reported = (
        select(trial.c.number, metric.c.step, metric.c.value, metric.c.kind)
        .join(metric, metric.c.trial == trial.c.id)
        .where(changed, metric.c.name == owner.spec.objective.metric)
        .order_by(trial.c.number, metric.c.step)
    )
    values = [(number, step, number_of(value, kind)) for number, step, value, kind in tx.execute(reported)]
    return StudyChanges(owner.seq, owner.created, trials, values)


class TableRow(NamedTuple):
    """A trial without its reports, as stored. Times are seconds since 1970."""

    number: int
    state: str
    value: float | None
    step: int
    attempt: int
    source: str
    duplicate_of: int | None
    reason: str | None
    detail: str | None
    worker: str | None
    queued_at: float
    started_at: float | None
    finished_at: float | None
    params: Mapping[str, Any]
    metrics: Mapping[str, float | str]  # a string stands for a number that is not finite
    spared_seconds: float | None  # saved by reuse; for trials trained together, this trial's share
    samples_per_second: float | None  # of all trials trained together
    changed: int  # sequence number of its last event


ORIGINAL = trial.alias("original")
SPARED = case(
    (trial.c.duplicate_of.is_(None), reported_number(trial, "pace", "saved_seconds") / group_size(trial)),
    (trial.c.finished_at.is_not(None), reported_number(ORIGINAL, "train_seconds") / group_size(ORIGINAL)),
)
SPEED = case((trial.c.duplicate_of.is_(None), reported_number(trial, "pace", "samples_per_second")))
COMPUTED = {"spared_seconds": SPARED, "samples_per_second": SPEED}
ROWS = (
    select(*(COMPUTED[name].label(name) if name in COMPUTED else trial.c[name] for name in TableRow._fields))
    .outerjoin(ORIGINAL, (ORIGINAL.c.study_id == trial.c.study_id) & (ORIGINAL.c.number == trial.c.duplicate_of))
    .order_by(trial.c.changed)
)


def table_rows(tx: Transaction, study_id: str, seq: int, limit: int) -> list[TableRow]:
    """Trials of the search that changed after event `seq`, in the order of their last events, at most `limit`."""
    query = ROWS.where(trial.c.study_id == study_id, trial.c.changed > seq, trial.c.source != CONFIRMATION).limit(limit)
    return [TableRow._make(row) for row in tx.execute(query)]


class ChangedTrial(NamedTuple):
    """The keys of a trial that changed."""

    changed: int  # sequence number of its last event
    number: int
    id: int


class Curve(NamedTuple):
    """The finite values of a trial's metric, in the order of the steps."""

    trial: int  # the row's key
    steps: Sequence[int]
    values: Sequence[float]


POINTS = (
    select(metric.c.trial, metric.c.step, metric.c.value)
    .where(
        metric.c.trial.in_(bindparam("ids", expanding=True)),
        # Redundant: the range makes PostgreSQL use the primary key even before it has statistics of the table.
        metric.c.trial.between(bindparam("first"), bindparam("last")),
        metric.c.name == bindparam("its_name"),
        metric.c.value.is_not(None),
    )
    .order_by(metric.c.trial, metric.c.step)
)


def changed_trials(tx: Transaction, study_id: str, seq: int) -> list[ChangedTrial]:
    """All trials of the search that changed after event `seq`, in the order of their last events."""
    query = select(trial.c.changed, trial.c.number, trial.c.id).where(
        trial.c.study_id == study_id, trial.c.changed > seq, trial.c.source != CONFIRMATION
    )
    return [ChangedTrial._make(row) for row in tx.execute(query.order_by(trial.c.changed))]


def curves(tx: Transaction, ids: Sequence[int], name: str) -> Iterator[Curve]:
    """The curves of the trials with these keys, at least one. Trials without a finite value of the metric are missing."""
    bound = {"ids": ids, "first": min(ids), "last": max(ids), "its_name": name}
    points: Any = tx.execute(POINTS, bound).cursor  # tuples of the driver: a third of the time of SQLAlchemy's rows
    for key, group in groupby(points, itemgetter(0)):
        _, steps, values = zip(*group, strict=True)
        yield Curve(key, steps, values)


def metric_names(tx: Transaction, study_id: str) -> set[str]:
    """The names of the metrics that the study's trials reported."""
    query = select(trial.c.metrics).where(trial.c.study_id == study_id, trial.c.step > 0)
    return {name for metrics in tx.scalars(query) for name in metrics}


def attempts(tx: Transaction, trial: int) -> list[Attempt]:
    """The attempts of the trial with the key `trial`, in order."""
    columns = [attempt.c[name] for name in ("attempt", "worker", "resumed", "started_at", "ended_at", "ending", "step", "detail")]
    rows = tx.execute(select(*columns).where(attempt.c.trial == trial).order_by(attempt.c.attempt)).mappings()
    return [Attempt(**{**row, "ending": row["ending"] and AttemptEnd(row["ending"])}) for row in rows]


def find_claim(tx: Transaction, study_id: str, number: int, of_attempt: int) -> RestClaim:
    """The claim over REST that began this attempt, with its study and trial. Raises ClaimNotFound, StudyUnreadable."""
    held = (trial.c.study_id == study_id) & (trial.c.number == number) & (attempt.c.attempt == of_attempt)
    columns = (attempt.c.worker, attempt.c.started_at, attempt.c.token_sha256)
    query = select(*columns).join(trial, trial.c.id == attempt.c.trial).where(held, attempt.c.token_sha256.is_not(None))
    row = tx.execute(query).one_or_none()
    if row is None:
        raise ClaimNotFound
    try:
        owner, found = find_study(tx, study_id), find_trial(tx, study_id, number)
    except StudyNotFound:  # it is deleted, and its rows are being removed
        raise ClaimNotFound from None
    lease = Lease(study=owner.id, trial=found.id, number=number, attempt=of_attempt, worker=row.worker)
    return RestClaim(study=owner, trial=found, lease=lease, token_sha256=row.token_sha256, started_at=row.started_at)


def log_chunks(tx: Transaction, trial: int, of_attempt: int, after: int = 0, limit: int = 100) -> list[LogChunk]:
    """The chunks of an attempt's log after chunk `after`, in order."""
    condition = (log.c.trial == trial) & (log.c.attempt == of_attempt) & (log.c.seq > after)
    rows = tx.execute(select(log.c.seq, log.c.at, log.c.text).where(condition).order_by(log.c.seq).limit(limit))
    return [LogChunk(*row) for row in rows]


def trials_between(tx: Transaction, study_id: str, first: int, until: int) -> list[Trial]:
    """The study's trials with numbers from `first` to below `until`, of every source, by number."""
    condition = (trial.c.study_id == study_id) & (trial.c.number >= first) & (trial.c.number < until)
    return [trial_of(row) for row in tx.execute(select(trial).where(condition).order_by(trial.c.number))]


def reports_between(tx: Transaction, trials: Collection[Trial], after: int, until: int) -> Mapping[int, list[MetricReport]]:
    """Reports for steps above `after` up to `until`, by `Trial.id`, in the order of the steps. Excludes steps above `Trial.step`."""
    steps = {one.id: one.step for one in trials}
    condition = metric.c.trial.in_(list(steps)) & (metric.c.step > after) & (metric.c.step <= until)
    columns = (metric.c.trial, metric.c.step, metric.c.name, metric.c.value, metric.c.kind)
    rows = tx.execute(select(*columns).where(condition).order_by(metric.c.trial, metric.c.step, metric.c.name))
    found = defaultdict[int, list[MetricReport]](list)
    for (key, step), group in groupby(rows, lambda row: (row[0], row[1])):
        if step <= steps[key]:
            found[key].append(MetricReport(step, {name: number_of(value, kind) for _, _, name, value, kind in group}))
    return found


SUMMARY_COLUMNS = select(
    trial.c.number, trial.c.state, trial.c.params, trial.c.value, trial.c.step, trial.c.source,
    trial.c.started_at, trial.c.finished_at,
)  # fmt: skip


def outcomes(tx: Transaction, study_id: str) -> list[TrialSummary]:
    """Every trial of the search, by number."""
    return [
        TrialSummary(
            number=row.number, state=TrialState(row.state), params=row.params, value=row.value, step=row.step,
            source=row.source, started_at=row.started_at, finished_at=row.finished_at,
        )
        for row in tx.execute(SUMMARY_COLUMNS.where(trial.c.study_id == study_id, trial.c.source != CONFIRMATION).order_by(trial.c.number))
    ]  # fmt: skip


def objective_curves(tx: Transaction, study: Study, most: int) -> Mapping[int, list[tuple[int, float]]]:
    """(step, objective) by trial number: every n-th step from the first on, so that there are about `most` points in total.

    Values that are not finite are left out, and so are trials without a finite value.
    """
    own = (trial.c.study_id == study.id) & (trial.c.source != CONFIRMATION)
    reported, longest = tx.execute(select(func.sum(trial.c.step), func.max(trial.c.step)).where(own)).one()
    stride = -(-(reported or 0) // most) or 1
    chosen = (metric.c.name == study.spec.objective.metric) & (metric.c.kind == ValueKind.FINITE)
    if stride > 1:  # listed steps are found by the key; the rows between them are not read
        chosen &= metric.c.step.in_(range(1, longest + 1, stride))
    query = select(trial.c.number, metric.c.step, metric.c.value).join(metric, metric.c.trial == trial.c.id).where(own, chosen)
    found = defaultdict[int, list[tuple[int, float]]](list)
    for number, step, value in tx.execute(query.order_by(trial.c.number, metric.c.step)):
        found[number].append((step, value))
    return found


MAX_REPORTS = 1_000_000  # a few seconds and tens of megabytes
CHUNK_ROWS = 20_000

REPLAY_COLUMNS = select(
    trial.c.id, trial.c.number, trial.c.state, trial.c.value, trial.c.step, trial.c.params, trial.c.changed, trial.c.duplicate_of,
    trial.c.worker, trial.c.started_at, group_size(trial).label("lanes"),
    reported_number(trial, "pace", "seconds_left").label("seconds_left"),
)  # fmt: skip


def recorded_study(tx: Transaction, study_id: str, most: int = MAX_REPORTS) -> RecordedStudy:
    """The trials and reports of the study's search; no reports if there are more than `most`. Raises StudyNotFound, StudyUnreadable."""
    study = find_study(tx, study_id)
    searched = (trial.c.study_id == study.id) & (trial.c.source != CONFIRMATION)
    trials = [_recorded_trial(row, study.spec) for row in tx.execute(REPLAY_COLUMNS.where(searched).order_by(trial.c.number))]
    count = tx.execute(select(func.coalesce(func.sum(trial.c.step), 0)).where(searched)).scalar_one()
    return RecordedStudy(
        spec=study.spec,
        partial=not study.state.terminal and study.confirmation is None,
        trials=trials,
        reports=_recorded_reports(tx, study) if count <= most else None,
    )


def _recorded_trial(row: Row[*tuple[Any, ...]], spec: StudySpec) -> RecordedTrial:
    state, shared = TrialState(row.state), row.lanes > 1
    return RecordedTrial(
        id=row.id,
        number=row.number,
        state=state,
        value=row.value,
        step=row.step,
        epochs=max(row.step, spec.last_step_of(row.params)),
        ended=row.changed if state.terminal else None,
        duplicate_of=row.duplicate_of,
        shared=f"{row.worker} {row.started_at}" if shared else None,
        seconds_left=None if row.seconds_left is None else float(row.seconds_left) / row.lanes,
    )


def curve_digests(tx: Transaction, study_id: str, most: int) -> list[CurveDigest]:
    """The newest complete trials of the search that recorded a digest of their curve."""
    digest = trial.c.result["curve"].as_string()
    complete = (trial.c.study_id == study_id) & (trial.c.state == TrialState.COMPLETE) & trial.c.round.is_(None) & digest.is_not(None)
    query = select(trial.c.number, trial.c.params, digest).where(complete, trial.c.duplicate_of.is_(None))
    return [CurveDigest(*row) for row in reversed(tx.execute(query.order_by(trial.c.number.desc()).limit(most)).all())]


def _recorded_reports(tx: Transaction, study: Study) -> RecordedReports:
    query = (
        select(metric.c.trial, metric.c.step, metric.c.value, metric.c.kind, metric.c.seq)
        .join(trial, metric.c.trial == trial.c.id)
        .where(trial.c.study_id == study.id, trial.c.source != CONFIRMATION, metric.c.name == study.spec.objective.metric)
    )
    reports = RecordedReports(array("q"), array("q"), array("d"), array("q"))
    points: Any = tx.execute(query).cursor  # tuples of the driver: a third of the time of SQLAlchemy's rows
    while chunk := points.fetchmany(CHUNK_ROWS):
        trials, steps, values, kinds, seqs = zip(*chunk, strict=True)
        numbers = values if None not in values else map(number_of, values, kinds)
        for column, new in zip(reports, (trials, steps, numbers, seqs), strict=True):
            column.extend(new)  # type: ignore[attr-defined]  # every column is an array
    return reports
