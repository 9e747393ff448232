"""Reads of studies and of sums over their trials."""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, get_args

from sqlalchemy import ColumnElement, FromClause, Row, Select, Table, and_, bindparam, case, false, func, null, or_, select

from service.domain.errors import StudyNotFound
from service.domain.progress import StudyProgress
from service.domain.records import CONFIRMATION, Event, Study
from service.domain.states import AttemptEnd, StudyState, TrialState
from service.store.codec import is_storable
from service.store.engine import Transaction
from service.store.registry import ANSWER, KEYS_KEPT_SECONDS, stored_answer
from service.store.rows import event_of, readable, study_of
from service.store.schema import FITS, VISIBLE, attempt, database_identity, event, idempotency, study, trial
from service.store.schema import manifest as kept
from service.store.schema import session_key as stored_session_key
from trainer.protocol import FailureReason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that a worker might claim from."""

    study: Study
    running: int
    claimable: int  # queued trials that this device may start, without duplicates that wait for their original
    exhausted: bool  # the sampler has nothing left to suggest
    queued: int = 0  # as `claimable`, for any device

    @property
    def has_work(self) -> bool:
        """Whether a trial can be claimed or added."""
        budget = self.study.spec.budget
        if budget.parallel is not None and self.running >= budget.parallel:
            return False
        return self.claimable > 0 or (not self.exhausted and self.study.created < budget.max_trials)


LIST_COLUMNS = (
    *(column for column in study.c if column is not study.c.facts),
    null().label("facts"),
    study.c.facts.is_not(None).label("checked"),
)
"""The columns of a study with `checked` instead of `facts`, which may have megabytes."""


def find_study(tx: Transaction, ref: str) -> Study:
    """The study with this id or name. Raises StudyNotFound, StudyUnreadable."""
    condition = select(study).where(or_(study.c.id == ref, study.c.name == ref), VISIBLE)
    row = tx.execute(condition).one_or_none() if is_storable(ref) else None
    if row is None:
        raise StudyNotFound(ref)
    return study_of(row)


def is_being_imported(tx: Transaction, name: str) -> bool:
    """Whether an unfinished import has reserved the name."""
    return tx.scalar(select(study.c.id).where(study.c.name == name, study.c.unpublished >= 0)) is not None


def count_studies(tx: Transaction) -> int:
    """The number of studies, ended ones included."""
    return int(tx.execute(select(func.count()).select_from(study).where(VISIBLE)).scalar_one())


def studies(
    tx: Transaction, limit: int = 100, after: str | None = None, name: str | None = None, states: Collection[StudyState] = ()
) -> list[Study]:
    """A page of studies, newest first, without their facts. `after` is the id or name of the last study of the previous page.

    `name` selects studies whose names contain the text, `states` those in one of the states. Raises StudyNotFound for `after`.
    """
    newest_first = select(*LIST_COLUMNS).order_by(study.c.created_at.desc(), study.c.id.desc()).where(*_filters(name, states))
    query, found = newest_first if after is None else newest_first.where(_created_before(find_study(tx, after))), list[Study]()
    while (missing := limit - len(found)) > 0:
        rows = tx.execute(query.limit(missing)).all()
        found += [one for _, one in readable(rows)]
        if len(rows) < missing:
            break
        query = newest_first.where(_created_before(rows[-1]))
    return found


def _filters(name: str | None, states: Collection[StudyState]) -> Iterator[ColumnElement[bool]]:
    yield VISIBLE
    if name:
        yield func.lower(study.c.name).contains(name.lower(), autoescape=True) if is_storable(name) else false()
    if states:
        yield study.c.state.in_(states)


def _created_before(last: Study | Row[Any]) -> ColumnElement[bool]:
    return or_(study.c.created_at < last.created_at, and_(study.c.created_at == last.created_at, study.c.id < last.id))


def counts(tx: Transaction, ids: Iterable[str]) -> dict[str, Mapping[TrialState, int]]:
    """The number of trials of the search by study id and state; zero counts are included."""
    known = list(ids)
    query = select(trial.c.study_id, trial.c.state, func.count()).where(trial.c.study_id.in_(known), trial.c.source != CONFIRMATION)
    counted = {(row[0], row[1]): row[2] for row in tx.execute(query.group_by(trial.c.study_id, trial.c.state))}
    return {one: {state: counted.get((one, state), 0) for state in TrialState} for one in known}


def totals(tx: Transaction) -> tuple[Mapping[StudyState, int], Mapping[TrialState, int]]:
    """The number of studies, and of the trials of all studies, by state; zero counts are included."""
    hidden = trial.c.study_id.in_(select(study.c.id).where(~VISIBLE))
    return {**dict.fromkeys(StudyState, 0), **_by_state(tx, study, VISIBLE)}, {
        **dict.fromkeys(TrialState, 0),
        **_by_state(tx, trial, ~hidden),
    }


def failures(tx: Transaction) -> Mapping[str, int]:
    """The number of failed trials of all studies by reason; zero counts are included."""
    hidden = trial.c.study_id.in_(select(study.c.id).where(~VISIBLE))
    query = select(trial.c.reason, func.count()).where(trial.c.reason.is_not(None), ~hidden).group_by(trial.c.reason)
    return {**dict.fromkeys(get_args(FailureReason), 0), **{reason: count for reason, count in tx.execute(query)}}


def attempt_ends(tx: Transaction) -> Mapping[str, int]:
    """The number of attempts at all trials by their end, `running` for those without one; zero counts are included."""
    end = func.coalesce(attempt.c.ending, "running")
    query = select(end, func.count()).group_by(end)
    return {**dict.fromkeys(("running", *AttemptEnd), 0), **{name: count for name, count in tx.execute(query)}}


def _by_state(tx: Transaction, table: Table, counted: ColumnElement[bool]) -> dict[Any, int]:
    return {state: count for state, count in tx.execute(select(table.c.state, func.count()).where(counted).group_by(table.c.state))}


# Executed by every poll of an idle worker. Building the statement takes longer than running it.
UNCHECKED = (
    select(study)
    .where(study.c.state == StudyState.ACTIVE, or_(study.c.facts.is_(None), study.c.recheck), VISIBLE)
    .order_by(study.c.created_at, study.c.id)
)


def unchecked_study(tx: Transaction, accepts: Callable[[Study], bool] = lambda study: True) -> Study | None:
    """The oldest active study that has to be checked and that `accepts` returns True for."""
    return next((one for _, one in readable(tx.execute(UNCHECKED)) if accepts(one)), None)


def _candidates(*conditions: ColumnElement[bool]) -> Select[Any]:
    running = func.count(case((trial.c.state == TrialState.RUNNING, 1)))
    waits = and_(trial.c.state == TrialState.QUEUED, trial.c.duplicate_of.is_(None))
    queued, claimable = func.count(case((waits, 1))), func.count(case((and_(waits, FITS), 1)))
    open_trials = (
        select(trial.c.study_id, running.label("running"), queued.label("queued"), claimable.label("claimable"))
        .where(trial.c.state.in_((TrialState.RUNNING, TrialState.QUEUED)))
        .group_by(trial.c.study_id)
        .subquery()
    )
    return (
        select(study, *(func.coalesce(column, 0).label(column.name) for column in open_trials.c if column is not open_trials.c.study_id))
        .outerjoin(open_trials, open_trials.c.study_id == study.c.id)
        .where(study.c.state == StudyState.ACTIVE, VISIBLE, *conditions)
        .order_by("running", study.c.created_at, study.c.id)
    )


CANDIDATES = _candidates(study.c.facts.is_not(None), ~study.c.recheck)
ITSELF = _candidates(study.c.id == bindparam("its_id"))


def candidates(tx: Transaction, device_bytes: int = 0) -> list[Candidate]:
    """Checked, active studies: the one with the fewest running trials first, then the oldest. `device_bytes` as in `claim_together`."""
    return _found(tx.execute(CANDIDATES, {"device_bytes": device_bytes}))


def candidate(tx: Transaction, study_id: str, device_bytes: int = 0) -> Candidate | None:
    """The study, checked or not, if it is active."""
    return next(iter(_found(tx.execute(ITSELF, {"its_id": study_id, "device_bytes": device_bytes}))), None)


def _found(rows: Iterable[Row[Any]]) -> list[Candidate]:
    return [Candidate(one, row.running, row.claimable, row.exhausted, row.queued) for row, one in readable(rows)]


def identity(tx: Transaction) -> str:
    """The database's random identity, 32 hexadecimal digits. A copy of a database has the identity of the original."""
    return str(tx.execute(select(database_identity.c.id)).scalar_one())


def find_answer(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """The stored answer of an earlier request with this key, or None. Raises IdempotencyConflict, StudyDeleted."""
    kept = (idempotency.c.key == key) & (idempotency.c.at >= time.time() - KEYS_KEPT_SECONDS)
    stored = tx.execute(select(*ANSWER).where(kept)).one_or_none()
    return None if stored is None else stored_answer(*stored, request_sha256)


def session_key(tx: Transaction) -> str:
    """The database's random key that signs session cookies."""
    return str(tx.execute(select(stored_session_key.c.key)).scalar_one())


def manifest(tx: Transaction, study_id: str) -> str | None:
    """The manifest of the study's examples, see trainer.protocol.Checked; None before the check."""
    digests: str | None = tx.scalar(select(kept.c.digests).where(kept.c.study_id == study_id))
    return digests


@dataclass(frozen=True, slots=True)
class SavedSeconds:
    """Seconds of training that reuse saved."""

    features_seconds: float = 0.0  # by stored outputs of frozen stages; below 0 while storing them has cost more than it saved
    duplicates_seconds: float = 0.0  # by duplicates, which copy the result of their original


@dataclass(frozen=True, slots=True)
class Throughput:
    """Sums over all running trials, at their last reports."""

    samples_per_second: float
    lanes: int  # trials whose heads are trained together with others


def saved_seconds(tx: Transaction, ids: Iterable[str] | None = None) -> dict[str, SavedSeconds]:
    """Saved seconds by study id, of these studies or of all. Studies without a saving are missing."""
    # Each trial of a batched run reports the figures of the whole run, so each counts for its share: the figure divided by group_size.
    known = None if ids is None else list(ids)
    features, duplicates = _saved_by_features(tx, known), _saved_by_duplicates(tx, known)
    return {key: SavedSeconds(features.get(key, 0.0), duplicates.get(key, 0.0)) for key in features.keys() | duplicates.keys()}


def throughput(tx: Transaction) -> Throughput:
    """The speed of all runs, and the number of running trials whose heads are trained together with others."""
    speed = func.sum(reported_number(trial, "pace", "samples_per_second") / group_size(trial))
    sharing = func.count().filter(group_size(trial) > 1)
    row = tx.execute(select(func.coalesce(speed, 0.0), sharing).where(trial.c.state == TrialState.RUNNING)).one()
    return Throughput(float(row[0]), int(row[1]))


def _saved_by_features(tx: Transaction, ids: list[str] | None) -> dict[str, float]:
    query = select(trial.c.study_id, reported_number(trial, "pace", "saved_seconds").label("seconds"), group_size(trial).label("trials"))
    return _saved(tx, query.where(trial.c.duplicate_of.is_(None)), ids)


def _saved_by_duplicates(tx: Transaction, ids: list[str] | None) -> dict[str, float]:
    original = trial.alias("original")
    pair = (original.c.study_id == trial.c.study_id) & (original.c.number == trial.c.duplicate_of)
    query = select(trial.c.study_id, reported_number(original, "train_seconds").label("seconds"), group_size(original).label("trials"))
    return _saved(tx, query.join(original, pair).where(trial.c.duplicate_of.is_not(None), trial.c.finished_at.is_not(None)), ids)


def _saved(tx: Transaction, reported: Select[tuple[str, float, float]], ids: list[str] | None) -> dict[str, float]:
    chosen = reported.where(trial.c.study_id.in_(_visible_ids() if ids is None else ids))
    # Results may have pictures. Both databases would read and parse them again for each use of a number in them, so the numbers come first.
    numbers = chosen.cte("numbers").prefix_with("MATERIALIZED")
    query = select(numbers.c.study_id, func.sum(numbers.c.seconds / numbers.c.trials)).where(numbers.c.seconds.is_not(None))
    return {key: float(seconds) for key, seconds in tx.execute(query.group_by(numbers.c.study_id))}


def _visible_ids() -> Select[tuple[str]]:
    return select(study.c.id).where(VISIBLE)


def group_size(table: FromClause) -> ColumnElement[float]:
    """The number of trials trained together with a row of trials, itself included; 1 if it reported none."""
    return func.coalesce(reported_number(table, "reuse", "lanes"), 1.0)


def reported_number(table: FromClause, *path: str) -> ColumnElement[float]:
    """A number in the result of a row of trials, by its path; null if it is missing."""
    value: ColumnElement[float] = table.c.result[path].as_float()
    return value


def running_best(tx: Transaction, studies: Iterable[Study]) -> dict[str, list[tuple[int, float]]]:
    """(number, value) of the complete trials of the search that were better than all earlier ones, by study id.

    The comparison runs in the database, so that only these trials are transferred.
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
    """(number, value) of the complete trials that changed after event `seen[study id]`, by study id, in no order."""
    newer = or_(*((trial.c.study_id == owner) & (trial.c.changed > seq) for owner, seq in seen.items()))
    complete = (trial.c.state == TrialState.COMPLETE) & trial.c.value.is_not(None) & (trial.c.source != CONFIRMATION)
    found = defaultdict[str, list[tuple[int, float]]](list)
    for owner, number, value in tx.execute(select(trial.c.study_id, trial.c.number, trial.c.value).where(newer, complete)):
        found[owner].append((number, value))
    return found


RECENT = 256  # last ended trials, from which the rate is computed
COUNTS = ("waiting", "running", "ended")


def study_progress(tx: Transaction, ids: Collection[str]) -> dict[str, StudyProgress]:
    """The progress of the active ones of these studies, by id."""
    active = select(study.c.id).where(study.c.id.in_(ids), study.c.state == StudyState.ACTIVE)
    now, lately = _open_trials(active).subquery(), _ended_trials(active).subquery()
    names = [field.name for field in fields(StudyProgress)]
    columns = [(now if name in now.c else lately).c[name] for name in names]
    query = select(study.c.id, *columns).outerjoin(now, now.c.study_id == study.c.id).outerjoin(lately, lately.c.study_id == study.c.id)
    found = {row.id: dict(zip(names, row[1:], strict=True)) for row in tx.execute(query.where(study.c.id.in_(active)))}
    return {key: StudyProgress(**known | {name: known[name] or 0 for name in COUNTS}) for key, known in found.items()}


def _open_trials(active: Select[tuple[str]]) -> Select[*tuple[object, ...]]:
    running = trial.c.state == TrialState.RUNNING
    waiting = and_(trial.c.state == TrialState.QUEUED, trial.c.duplicate_of.is_(None))
    left = trial.c.result["pace", "seconds_left"].as_float()
    return (
        select(
            trial.c.study_id,
            func.count(case((waiting, 1))).label("waiting"),
            func.count(case((running, 1))).label("running"),
            func.min(case((running, trial.c.started_at))).label("running_since"),
            func.max(case((running, left))).label("running_seconds_left"),
        )
        .where(trial.c.study_id.in_(active), trial.c.state.in_((TrialState.RUNNING, TrialState.QUEUED)))
        .group_by(trial.c.study_id)
    )


def _ended_trials(active: Select[tuple[str]]) -> Select[*tuple[object, ...]]:
    """The trials from which the rate is computed: without duplicates, which had no worker, and without imported trials."""
    place = func.row_number().over(partition_by=trial.c.study_id, order_by=trial.c.finished_at.desc()).label("place")
    had_a_worker = trial.c.study_id.in_(active) & trial.c.finished_at.is_not(None) & trial.c.started_at.is_not(None)
    here = trial.c.finished_at >= study.c.started_at
    ranked = select(trial.c.study_id, trial.c.started_at, trial.c.finished_at, place).join(study).where(had_a_worker, here).subquery()
    return (
        select(
            ranked.c.study_id,
            func.count().label("ended"),
            func.min(ranked.c.started_at).label("first_start"),
            func.max(ranked.c.finished_at).label("last_end"),
        )
        .where(ranked.c.place <= RECENT)
        .group_by(ranked.c.study_id)
    )


def events_after(tx: Transaction, study_id: str, seq: int, limit: int = 500) -> list[Event]:
    """The study's events after event `seq`, in order, at most `limit`."""
    query = select(event).where(event.c.study_id == study_id, event.c.seq > seq).order_by(event.c.seq).limit(limit)
    return [event_of(row) for row in tx.execute(query)]


class LastEvent(NamedTuple):
    """The sequence number of a study's last event, and whether the study has ended."""

    seq: int
    ended: bool


# Executed ten times a second while an event stream is open. Building the statement takes longer than running it.
LAST_EVENTS = select(study.c.id, study.c.seq, study.c.state).where(study.c.id.in_(bindparam("ids", expanding=True)), VISIBLE)


def last_events(tx: Transaction, ids: Sequence[str]) -> dict[str, LastEvent]:
    """The last event by study id. Studies that do not exist are missing."""
    return {key: LastEvent(seq, StudyState(state).terminal) for key, seq, state in tx.execute(LAST_EVENTS, {"ids": ids})}
