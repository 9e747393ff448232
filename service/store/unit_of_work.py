"""The unit of work on one study: holds its lock and buffers changed rows and events until the transaction ends."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Integer, bindparam, delete, func, insert, literal, or_, select, update

from service.domain import records
from service.domain.errors import ImportGivenUp, StudyNotFound, TrialNotFound
from service.domain.records import CONFIRMATION, MetricReport, Study, Trial
from service.domain.states import EventKind, TrialState, ValueKind
from service.store.attempts import Attempts
from service.store.codec import cleaned, finite, is_storable, key_of, kind_of, number_of
from service.store.dialects import insert_or_replace
from service.store.engine import Transaction
from service.store.queries.workers import workers_with_device
from service.store.rows import HeldTrial, columns_of, first_columns_of, held_trial_of, readable, study_of
from service.store.schema import CLAIM_ORDER, FITS, OPEN, VISIBLE, event, metric, study, trial
from trainer.protocol import Checkpoint, FailureReason


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a trial and its event."""

    trial: HeldTrial
    kind: EventKind
    body: Mapping[str, Any]
    why: str | None = None  # the attempt ended, if it differs from the trial's detail


class StudyUnitOfWork:
    """A study whose row is locked until the transaction ends. Only `flush` and `add` write to the database.

    Methods that return `HeldTrial`s load and lock trials; `save` takes a changed copy.
    """

    # Lock order in every transaction: study rows by id, then trial rows by id. Another order could deadlock.

    def __init__(self, tx: Transaction, owner: Study, exhausted: bool, failures: int) -> None:
        self.study = owner
        self.exhausted = exhausted  # the sampler has nothing left to suggest
        self.failures = failures  # in a row
        self.now = time.time()
        self.attempts = Attempts(tx, self.now)
        self.metrics = Measurements(tx)
        self._tx = tx
        self._found = (owner, exhausted, failures)
        self._seq = owner.seq
        self._loaded: dict[int, HeldTrial] = {}
        self._changed: dict[int, HeldTrial] = {}
        self._events: list[dict[str, Any]] = []
        self._values: list[dict[str, Any]] = []

    # loading

    def trials(self, ids: Collection[int]) -> dict[int, HeldTrial]:
        """The study's trials with these keys."""
        return {one.id: one for one in self._hold(LOCKED_TRIALS, owner=self.study.id, ids=list(ids))}

    def numbered(self, number: int) -> HeldTrial:
        """The trial with this number. Raises TrialNotFound."""
        found = self._load(trial.c.number == number) if 0 <= number < self.study.created else []
        if not found:
            raise TrialNotFound(number)
        return found[0]

    def open_trials(self) -> list[HeldTrial]:
        """Every trial that has not ended."""
        return [one for one in self._load(trial.c.state.in_(OPEN)) if not one.state.terminal]

    def claimable(self, limit: int, device_bytes: int = 0) -> list[HeldTrial]:
        """Queued trials that a device with that memory may start, in CLAIM_ORDER, without duplicates that wait for their original.

        Skips rows that are locked.
        """
        waiting = (trial.c.state == TrialState.QUEUED) & trial.c.duplicate_of.is_(None) & FITS
        query = self._query(waiting).order_by(*CLAIM_ORDER).limit(limit)
        return self._hold(query.with_for_update(key_share=True, skip_locked=True), device_bytes=device_bytes)

    def workers_with_device(self, least_bytes: int) -> dict[str, float]:
        """See `queries.workers_with_device`."""
        return workers_with_device(self._tx, self.study.id, least_bytes)

    def unstarted(self) -> list[HeldTrial]:
        """Queued trials of the search without an attempt, waiting duplicates included, by number."""
        queued = self._load((trial.c.state == TrialState.QUEUED) & (trial.c.attempt == 0) & (trial.c.source != CONFIRMATION))
        return sorted((one for one in queued if one.state is TrialState.QUEUED), key=lambda one: one.number)

    def judged_trials(self) -> list[HeldTrial]:
        """Trials that ended with a value or could have: complete and pruned ones, by number."""
        judged = self._load(trial.c.state.in_((TrialState.COMPLETE, TrialState.PRUNED)))
        return sorted(judged, key=lambda one: one.number)

    def waiting_for(self, numbers: Collection[int]) -> list[HeldTrial]:
        """Duplicates that wait for one of these trials."""
        return self._load((trial.c.state == TrialState.QUEUED) & trial.c.duplicate_of.in_(numbers))

    def originals(self, params: Iterable[Mapping[str, Any]]) -> list[HeldTrial]:
        """Trials with one of these parameters that are not duplicates themselves, by number. They are not locked."""
        keys = {key_of(one) for one in params}
        query = self._query(trial.c.params_key.in_(keys) & trial.c.duplicate_of.is_(None)).order_by(trial.c.number)
        return [held_trial_of(row) for row in self._tx.execute(query)]

    def last_failed(self, reasons: Collection[str], count: int) -> list[HeldTrial]:
        """The last `count` trials with an attempt that failed for one of these reasons, in the order of their ends."""
        failed = self._query((trial.c.state == TrialState.FAILED) & trial.c.reason.in_(reasons) & (trial.c.attempt > 0))
        stored = [held_trial_of(row) for row in self._tx.execute(failed.order_by(trial.c.changed.desc()).limit(count))]
        now = [one for one in self.ended if one.state is TrialState.FAILED and one.reason in reasons and one.attempt]
        return sorted(stored + now, key=lambda one: one.changed)[-count:]

    def count_ends(self) -> dict[tuple[TrialState, FailureReason | None], int]:
        """The number of ended trials of the search by state and failure reason."""
        ended = self._query(trial.c.state.not_in(OPEN) & (trial.c.source != CONFIRMATION) & trial.c.id.not_in(list(self._changed)))
        columns = ended.with_only_columns(trial.c.state, trial.c.reason, func.count()).group_by(trial.c.state, trial.c.reason)
        counts = Counter({(TrialState(state), reason): count for state, reason, count in self._tx.execute(columns)})
        counts.update((one.state, one.reason) for one in self.ended if one.source != CONFIRMATION)
        return dict(counts)

    def last_ended(self) -> HeldTrial | None:
        """The trial of the search that ended last."""
        ended = self._query(trial.c.state.not_in(OPEN) & (trial.c.source != CONFIRMATION)).order_by(trial.c.changed.desc()).limit(1)
        stored = [held_trial_of(row) for row in self._tx.execute(ended)]
        now = [one for one in self.ended if one.source != CONFIRMATION]
        return max(stored + now, key=lambda one: one.changed, default=None)

    def has_progress(self) -> bool:
        """Whether a trial has reported a step."""
        return self._tx.scalar(select(trial.c.id).where(trial.c.study_id == self.study.id, trial.c.step > 0).limit(1)) is not None

    def best(self, count: int) -> list[HeldTrial]:
        """The `count` best complete trials of the search, best first. Of trials with equal parameters only the first counts."""
        ascending = self.study.spec.objective.direction == "minimize"
        complete = (trial.c.state == TrialState.COMPLETE) & trial.c.value.is_not(None) & trial.c.duplicate_of.is_(None)
        first = func.min(trial.c.number).over(partition_by=trial.c.params_key)
        searched = select(trial.c.id, trial.c.number, trial.c.value, first.label("first")).where(
            trial.c.study_id == self.study.id, complete, trial.c.source != CONFIRMATION
        )
        known = searched.subquery()
        order = (known.c.value.asc() if ascending else known.c.value.desc(), known.c.number)
        chosen = select(known.c.id).where(known.c.number == known.c.first).order_by(*order).limit(count)
        keys = list(self._tx.scalars(chosen))
        found = {one.id: one for one in self._hold(self._query(trial.c.id.in_(keys)))}
        return [found[key] for key in keys]

    def baseline(self) -> HeldTrial | None:
        """The trial of the study's baseline, however it ended."""
        return next(iter(self._load(trial.c.source == "baseline")), None)

    def trials_numbered(self, numbers: Collection[int]) -> list[HeldTrial]:
        """The trials with these numbers."""
        return self._load(trial.c.number.in_(numbers))

    def confirmation_trials(self) -> list[HeldTrial]:
        """All trials of the confirmation."""
        return self._load(trial.c.source == CONFIRMATION)

    def count_running(self) -> int:
        """The number of running trials."""
        return self._count((TrialState.RUNNING,))

    def has_open(self) -> bool:
        """Whether a trial is open, with the changes of this transaction."""
        return self._count(OPEN) > 0

    def kept_checkpoints(self, one: HeldTrial, newest: int) -> tuple[Checkpoint, ...]:
        """The trial's `newest` newest checkpoints, and the one with the best objective at its step."""
        if len(one.checkpoints) <= newest:
            return one.checkpoints
        objective, steps = self.study.spec.objective, [checkpoint.step for checkpoint in one.checkpoints]
        return records.kept(one.checkpoints, newest, self.metrics.by_step(one, objective.metric, steps), objective.direction)

    # changing

    def emit(self, kind: EventKind, **body: Any) -> int:
        """Add an event and return its sequence number."""
        # The study's row is locked, so numbers are committed in order: a reader that asks for `seq > n` misses no event.
        self._seq += 1
        self._events.append({"study_id": self.study.id, "seq": self._seq, "kind": kind, "body": _cleaned(body), "at": self.now})
        return self._seq

    def save(self, step: Step) -> HeldTrial:
        """Change a loaded trial and emit the event. A trial that ends keeps its last and its best checkpoint."""
        changed = replace(step.trial, changed=self._event_of(step))
        if changed.state.terminal:
            changed = replace(changed, checkpoints=self.kept_checkpoints(changed, records.AT_THE_END))
        self.attempts.follow(self._changed.get(changed.id, self._loaded[changed.id]), changed, step.why)
        self._changed[changed.id] = changed
        return changed

    def add(self, steps: Sequence[Step]) -> list[HeldTrial]:
        """Insert trials from `new_trial`, in the order of their numbers, and emit their events. Returns them with their keys."""
        if not steps:
            return []
        added = [replace(step.trial, changed=self._event_of(step)) for step in steps]
        first = added[0].number
        self._tx.execute(insert(trial), [first_columns_of(one) for one in added])
        keys = select(trial.c.number, trial.c.id).where(trial.c.study_id == self.study.id, trial.c.number >= first)
        key_by_number = {number: key for number, key in self._tx.execute(keys)}
        inserted = [replace(one, id=key_by_number[one.number]) for one in added]
        for one in inserted:
            if one.state is TrialState.RUNNING:
                self.attempts.begin(one)
        return inserted

    def new_repeat(self, one: Trial, round: int) -> HeldTrial:
        """A queued trial that repeats another one in a round of the confirmation. `add` inserts its row."""
        return replace(self.new_trial(one.params, source=CONFIRMATION), confirms=one.number, round=round)

    def new_trial(self, params: Mapping[str, Any], source: str, memory: Mapping[str, Any] | None = None) -> HeldTrial:
        """A queued trial with the study's next number. `add` inserts its row."""
        number = self.study.created
        self.study = replace(self.study, created=number + 1)
        return HeldTrial(
            id=0, study=self.study.id, number=number, state=TrialState.QUEUED, params=params, value=None, value_kind=ValueKind.MISSING,
            metrics={}, step=0, attempt=0, reason=None, detail=None, worker=None, duplicate_of=None, source=source, changed=0,
            checkpoints=(), memory=memory or {}, queued_at=self.now, started_at=None, finished_at=None, lost=0, crashes=0, heartbeat=0,
        )  # fmt: skip

    def report(self, one: HeldTrial, reports: Iterable[MetricReport]) -> None:
        """Buffer the metrics of steps. The caller emits their event by `save` directly afterwards, which takes the next number."""
        self.metrics.report(one, reports, self._seq + 1)

    def value(self, one: HeldTrial, number: float | None, seq: int) -> None:
        """Buffer another value of a complete or pruned trial; `seq` is the number of the event."""
        self._values.append({"its_id": one.id, "its_value": finite(number), "its_kind": kind_of(number), "its_seq": seq})

    def log(self, one: HeldTrial, text: str, start: int | None) -> None:
        """Append whole lines to the attempt's log, which `attempts.find_logs` loaded, and emit an event if it grew."""
        if (chunk := self.attempts.log(one, text, start)) is not None:
            self.emit(EventKind.TRIAL_LOGGED, number=one.number, state=one.state, attempt=one.attempt, chunk=chunk)

    # results

    @property
    def ended(self) -> list[HeldTrial]:
        """The trials that ended in this transaction, by number."""
        return sorted((one for one in self._changed.values() if one.state.terminal), key=lambda one: one.number)

    def flush(self) -> None:
        """Write all changes to the database, one statement for each table."""
        self.study = replace(self.study, seq=self._seq)
        if (self.study, self.exhausted, self.failures) == self._found:
            return
        self._write_trials()
        if self._values:
            self._tx.execute(REVALUED, self._values)
        self.metrics.write(self._seq)
        self.attempts.write()
        if self._events:
            self._tx.execute(insert(event), self._events)
        now = self.study
        values: dict[str, Any] = {"state": now.state, "reason": now.reason and cleaned(now.reason), "created": now.created}
        values |= {"recheck": now.recheck, "idle_seconds": now.idle_seconds}
        values |= {"exhausted": self.exhausted, "failures": self.failures}
        values |= {"seq": now.seq, "started_at": now.started_at, "finished_at": now.finished_at}
        if now.facts is not self._found[0].facts:  # they may have megabytes and change once
            values["facts"] = _text(now.facts)
        if now.confirmation is not self._found[0].confirmation:
            values["confirmation"] = _text(now.confirmation)
        if now.name != self._found[0].name:
            values["name"] = now.name
        if now.spec is not self._found[0].spec:
            values["spec"] = now.spec.model_dump_json()
        self._tx.execute(STUDY_UPDATE, values | {"its_id": now.id})

    # internals

    def _query(self, condition: Any) -> Any:
        return select(trial).where(trial.c.study_id == self.study.id, condition)

    def _load(self, condition: Any) -> list[HeldTrial]:
        """Load and lock trials in the order of their keys, the lock order of every transaction."""
        return self._hold(self._query(condition).order_by(trial.c.id).with_for_update(key_share=True))

    def _hold(self, query: Any, **bound: Any) -> list[HeldTrial]:
        found = [held_trial_of(row) for row in self._tx.execute(query, bound)]
        for one in found:
            self._loaded.setdefault(one.id, one)
        return [self._changed.get(one.id, one) for one in found]

    def _count(self, states: Collection[TrialState]) -> int:
        stored = self._tx.scalar(select(func.count()).where(trial.c.study_id == self.study.id, trial.c.state.in_(states)))
        changes = sum((now.state in states) - (self._loaded[key].state in states) for key, now in self._changed.items())
        return int(stored or 0) + changes

    def _event_of(self, step: Step) -> int:
        return self.emit(step.kind, number=step.trial.number, state=step.trial.state, attempt=step.trial.attempt, **step.body)

    def _write_trials(self) -> None:
        """Update each trial, guarded by the state and attempt that it was loaded with. Raises RuntimeError if one differs."""
        if not self._changed:
            return
        rows = []
        for one in self._changed.values():
            loaded = self._loaded[one.id]
            if one.params != loaded.params:  # before the update below: a trigger rejects updates of ended trials
                completed = {"params": dict(one.params), "params_key": key_of(one.params)}
                self._tx.execute(update(trial).where(trial.c.id == one.id).values(completed))
            rows.append(columns_of(one) | {"its_id": one.id, "its_attempt": loaded.attempt, "its_state": loaded.state})
        if self._tx.execute(GUARDED_UPDATE, rows).rowcount != len(rows):
            raise RuntimeError(f"a trial of study {self.study.id} changed under its lock")


# Statements of every report, built once: building one takes longer than running it.
STUDY_UPDATE = update(study).where(study.c.id == bindparam("its_id"))
LOCKED_STUDIES = (
    select(study).where(study.c.id.in_(bindparam("ids", expanding=True)), VISIBLE).order_by(study.c.id).with_for_update(key_share=True)
)
LOCKED_TRIALS = (
    select(trial)
    .where(trial.c.study_id == bindparam("owner"), trial.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(trial.c.id)
    .with_for_update(key_share=True)
)
REVALUED = (
    update(trial)
    .where(trial.c.id == bindparam("its_id"))
    .values(value=bindparam("its_value"), value_kind=bindparam("its_kind"), changed=bindparam("its_seq"))
)
GUARDED_UPDATE = (
    update(trial)
    .where(
        trial.c.id == bindparam("its_id"),
        trial.c.attempt == bindparam("its_attempt"),
        trial.c.state == bindparam("its_state"),
    )
    .execution_options(synchronize_session=False)
)


@contextmanager
def locked(tx: Transaction, ref: str) -> Iterator[StudyUnitOfWork]:
    """Lock the study with this id or name; flush if the block raises nothing. Raises StudyNotFound, StudyUnreadable."""
    row = None
    if is_storable(ref):
        condition = select(study).where(or_(study.c.id == ref, study.c.name == ref), VISIBLE)
        row = tx.execute(condition.with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise StudyNotFound(ref)
    uow = StudyUnitOfWork(tx, study_of(row), row.exhausted, row.failures)
    yield uow
    uow.flush()


@contextmanager
def unpublished(tx: Transaction, study_id: str, writes: int, *, publish: bool = False) -> Iterator[StudyUnitOfWork]:
    """Lock the hidden study of an import for its next transaction; flush if the block raises nothing.

    `writes` is the number of its earlier transactions. `publish` makes the study visible. Raises ImportGivenUp when the stored count
    differs, because a sweep has given up the import.
    """
    condition = (study.c.id == study_id) & (study.c.unpublished == writes)
    if tx.execute(update(study).where(condition).values(unpublished=None if publish else writes + 1)).rowcount != 1:
        raise ImportGivenUp
    row = tx.execute(select(study).where(study.c.id == study_id)).one()
    uow = StudyUnitOfWork(tx, study_of(row), row.exhausted, row.failures)
    yield uow
    uow.flush()


@contextmanager
def all_locked(tx: Transaction, ids: Collection[str]) -> Iterator[dict[str, StudyUnitOfWork]]:
    """Lock the studies that exist and can be read, in the order of their ids; flush if the block raises nothing."""
    rows = tx.execute(LOCKED_STUDIES, {"ids": list(ids)})
    units = {owner.id: StudyUnitOfWork(tx, owner, row.exhausted, row.failures) for row, owner in readable(rows)}
    yield units
    for uow in units.values():
        uow.flush()


def _text(value: BaseModel | None) -> str | None:
    return None if value is None else value.model_dump_json()


def _cleaned(body: dict[str, Any]) -> dict[str, Any]:
    """The event's body with cleaned strings, which may be external text."""
    return {name: cleaned(value) if isinstance(value, str) else value for name, value in body.items()}


class Measurements:
    """Buffers the metrics that trials of a unit of work report. Only `write` and `forget_above` write to the database."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._reported: dict[tuple[int, int, str], dict[str, Any]] = {}
        self._copies: list[int] = []

    def at(self, one: HeldTrial, step: int) -> dict[str, float]:
        """The trial's stored metrics at the step."""
        return self._stored(one, step)

    def reported(self, one: HeldTrial, step: int) -> dict[str, float]:
        """The stored metrics at the step that the current attempt reported."""
        return self._stored(one, step, metric.c.attempt == one.attempt)

    def _stored(self, one: HeldTrial, step: int, *conditions: ColumnElement[bool]) -> dict[str, float]:
        query = select(metric.c.name, metric.c.value, metric.c.kind).where(metric.c.trial == one.id, metric.c.step == step, *conditions)
        return {name: number_of(value, kind) for name, value, kind in self._tx.execute(query)}

    def by_step(self, one: HeldTrial, name: str, steps: Sequence[int]) -> dict[int, float]:
        """One metric of the trial at the given steps, stored or buffered. Steps without it are missing."""
        query = select(metric.c.step, metric.c.value, metric.c.kind)
        query = query.where(metric.c.trial == one.id, metric.c.name == name, metric.c.step.in_(steps))
        found = {step: number_of(value, kind) for step, value, kind in self._tx.execute(query)}
        reported = {step: self._reported[one.id, step, name] for step in steps if (one.id, step, name) in self._reported}
        return found | {step: number_of(row["value"], row["kind"]) for step, row in reported.items()}

    def report(self, one: HeldTrial, reports: Iterable[MetricReport], seq: int) -> None:
        """Buffer the metrics of steps; a later report of a step replaces an earlier one. `seq` is the number of their event."""
        for report in reports:
            for name, number in report.metrics.items():
                key = {"trial": one.id, "step": report.step, "name": name}
                value = {"attempt": one.attempt, "value": finite(number), "kind": kind_of(number), "seq": seq}
                self._reported[one.id, report.step, name] = key | value

    def forget_above(self, one: HeldTrial, step: int) -> None:
        """Delete the metrics of later steps, because the trial resumes from this one."""
        self._tx.execute(delete(metric).where(metric.c.trial == one.id, metric.c.step > step))

    def forget_superseded(self, one: HeldTrial, step: int) -> None:
        """Delete what earlier attempts reported at this step and later ones, because the running attempt has reported this step."""
        self._tx.execute(delete(metric).where(metric.c.trial == one.id, metric.c.step >= step, metric.c.attempt < one.attempt))

    def copy_to(self, duplicate: HeldTrial) -> None:
        """Copy the metrics of the original to an ended duplicate."""
        self._copies.append(duplicate.id)

    def write(self, seq: int) -> None:
        """Write the buffered metrics. `seq` is the number of the study's last event."""
        if self._reported:
            self._tx.execute(insert_or_replace(self._tx, metric), list(self._reported.values()))
        if self._copies:
            self._tx.execute(_copying(self._copies, seq))


def _copying(duplicates: Collection[int], seq: int) -> Any:
    """An INSERT of the originals' metrics for their duplicates."""
    duplicate, original = trial.alias("duplicate"), trial.alias("original")
    same = (original.c.study_id == duplicate.c.study_id) & (original.c.number == duplicate.c.duplicate_of)
    columns = ("trial", "step", "name", "attempt", "value", "kind", "seq")
    copied = (
        select(duplicate.c.id, metric.c.step, metric.c.name, literal(0, Integer), metric.c.value, metric.c.kind, literal(seq))
        .join(original, same)
        .join(metric, metric.c.trial == original.c.id)
        .where(duplicate.c.id.in_(duplicates))
    )
    return insert(metric).from_select(columns, copied)
