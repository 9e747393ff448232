"""Rows into records, and trials back into rows."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row

from service.domain.errors import StudyUnreadable
from service.domain.records import Confirmation, Event, Lease, Metric, Study, Trial, Worker
from service.domain.spec import StudySpec
from service.domain.states import StudyState, TrialState, ValueKind
from service.store.codec import key_of, number_of, with_words, without_words
from trainer.contract import Checkpoint, Facts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTrial(Trial):
    """A trial under its study's lock, with the counters that only writers need."""

    lost: int
    crashes: int
    heartbeat: int


@lru_cache(maxsize=512)
def _spec_of(text: str) -> StudySpec:
    return StudySpec.model_validate_json(text)


@lru_cache(maxsize=512)
def _facts_of(text: str) -> Facts:
    return Facts.model_validate_json(text)


def study_of(row: Row[Any]) -> Study:
    """The study of a whole row. Raises StudyUnreadable."""
    try:
        spec, facts = _spec_of(row.spec), None if row.facts is None else _facts_of(row.facts)
    except ValidationError as error:
        raise StudyUnreadable(row.id) from error
    return Study(
        id=row.id,
        name=row.name,
        state=StudyState(row.state),
        reason=row.reason,
        spec=spec,
        facts=facts,
        confirmation=None if row.confirmation is None else Confirmation.model_validate_json(row.confirmation),
        created=row.created,
        seq=row.seq,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def readable(rows: Iterable[Row[Any]]) -> Iterator[tuple[Row[Any], Study]]:
    """Each row with its study, but for those that cannot be read: one such study holds up no other. The log names it."""
    for row in rows:
        try:
            yield row, study_of(row)
        except StudyUnreadable as error:
            _complain(row.id, str(error.__cause__))


@lru_cache(maxsize=512)
def _complain(study_id: str, why: str) -> None:
    """Once for each study, however often it is met."""
    log.error("study %s is left out, for it cannot be read: %s", study_id, why)


def trial_of(row: Row[Any]) -> Trial:
    """The trial of a whole row."""
    return Trial(**_trial_fields(row))


def held_trial_of(row: Row[Any]) -> HeldTrial:
    """The trial of a whole row, with its writers' counters."""
    return HeldTrial(**_trial_fields(row), lost=row.lost, crashes=row.crashes, heartbeat=row.heartbeat)


def _trial_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "study": row.study_id,
        "number": row.number,
        "state": TrialState(row.state),
        "params": row.params,
        "value": row.value,
        "value_kind": ValueKind(row.value_kind),
        "metrics": without_words(row.metrics),
        "step": row.step,
        "attempt": row.attempt,
        "reason": row.reason,
        "detail": row.detail,
        "worker": row.worker,
        "duplicate_of": row.duplicate_of,
        "source": row.source,
        "confirms": row.confirms,
        "round": row.round,
        "changed": row.changed,
        "checkpoints": tuple(Checkpoint.model_validate(one) for one in row.checkpoints),
        "result": row.result,
        "memory": row.memory,
        "queued_at": row.queued_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def columns_of(trial: HeldTrial) -> dict[str, Any]:
    """The columns that change in a trial's life."""
    return {
        "state": trial.state,
        "value": trial.value,
        "value_kind": trial.value_kind,
        "metrics": with_words(trial.metrics),
        "step": trial.step,
        "attempt": trial.attempt,
        "lost": trial.lost,
        "crashes": trial.crashes,
        "heartbeat": trial.heartbeat,
        "worker": trial.worker,
        "checkpoints": [one.model_dump() for one in trial.checkpoints],
        "reason": trial.reason,
        "detail": trial.detail,
        "duplicate_of": trial.duplicate_of,
        "memory": dict(trial.memory),
        "result": dict(trial.result),
        "changed": trial.changed,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }


def first_columns_of(trial: HeldTrial) -> dict[str, Any]:
    """All columns of a trial that has no row yet, but its key."""
    return columns_of(trial) | {
        "study_id": trial.study,
        "number": trial.number,
        "params": dict(trial.params),
        "params_key": key_of(trial.params),
        "source": trial.source,
        "confirms": trial.confirms,
        "round": trial.round,
        "queued_at": trial.queued_at,
    }


def lease_of(row: Row[*tuple[Any, ...]]) -> Lease:
    """The lease of a running trial's row."""
    return Lease(study=row.study_id, trial=row.id, number=row.number, attempt=row.attempt, worker=row.worker)


def metric_of(row: Row[Any]) -> Metric:
    """The metric of a row."""
    return Metric(step=row.step, name=row.name, value=number_of(row.value, row.kind), attempt=row.attempt)


def event_of(row: Row[Any]) -> Event:
    """The event of a row."""
    return Event(seq=row.seq, kind=row.kind, body=row.body, at=row.at)


def worker_of(row: Row[Any]) -> Worker:
    """The worker of a row."""
    devices: Sequence[str] = row.devices
    return Worker(
        id=row.id,
        host=row.host,
        pid=row.pid,
        slots=row.slots,
        devices=tuple(devices),
        state=row.state,
        started_at=row.started_at,
        seen_at=row.seen_at,
        memory=tuple(row.memory or ()),
    )
