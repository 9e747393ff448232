"""Converts rows to records, and trials to rows."""

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from sqlalchemy import Row

from service.domain.errors import StudyUnreadable
from service.domain.records import Confirmation, Event, Lease, ReportedMetric, Study, Trial, UnusableDevice, Worker
from service.domain.samplers import within_bounds
from service.domain.spec import StudySpec
from service.domain.states import StudyState, TrialState, ValueKind
from service.store.codec import cleaned, decode_metrics, encode_metrics, key_of, number_of
from trainer.configuration import DatasetInfo
from trainer.protocol import Checkpoint

log = logging.getLogger(__name__)

MAX_CHARACTERS = 8 * 1024 * 1024  # of cached specs, and of cached facts; the parsed documents take several times as many bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldTrial(Trial):
    """A trial that was loaded under its study's lock, with the counters that only writers use."""

    lost: int
    crashes: int
    heartbeat: int
    least_device_bytes: int | None = None


def _parse_spec(study_id: str, text: str) -> StudySpec:
    """Parse a spec. Sampler options that an earlier version accepted are reduced to the present bounds, with a warning in the log."""
    try:
        return StudySpec.model_validate_json(text)
    except ValidationError:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        sampler, change = within_bounds(document.get("sampler") if isinstance(document, dict) else None)
        if change is None:
            raise
        log.warning("study %s: %s", study_id, change)
        return StudySpec.model_validate_json(json.dumps({**document, "sampler": sampler}))


class _DocumentCache(Generic[T]):
    """LRU cache of the studies' parsed documents by study id, bounded by the total length of their texts. Thread-safe."""

    def __init__(self, parse: Callable[[str, str], T], max_characters: int = MAX_CHARACTERS) -> None:
        self._parse = parse
        self._max_characters = max_characters
        self._lock = Lock()
        self._kept: OrderedDict[str, tuple[str, T]] = OrderedDict()
        self.characters = 0

    def get(self, study_id: str, text: str) -> T:
        """The parsed text, from the cache if it is unchanged. Raises the exceptions of `parse`."""
        with self._lock:
            found = self._kept.get(study_id)
            if found is not None and found[0] == text:
                self._kept.move_to_end(study_id)
                return found[1]
        document = self._parse(study_id, text)
        with self._lock:
            self._drop(study_id)
            self._kept[study_id] = (text, document)
            self.characters += len(text)
            while self.characters > self._max_characters:
                self._drop(next(iter(self._kept)))
        return document

    def _drop(self, study_id: str) -> None:
        if (old := self._kept.pop(study_id, None)) is not None:
            self.characters -= len(old[0])


SPECS = _DocumentCache[StudySpec](_parse_spec)
FACTS = _DocumentCache[DatasetInfo](lambda _, text: DatasetInfo.model_validate_json(text))


def study_of(row: Row[Any]) -> Study:
    """The study of a whole row, or of a row with the column `checked` instead of `facts`. Raises StudyUnreadable."""
    try:
        spec, facts = SPECS.get(row.id, row.spec), None if row.facts is None else FACTS.get(row.id, row.facts)
        state = StudyState(row.state)
        confirmation = None if row.confirmation is None else Confirmation.model_validate_json(row.confirmation)
    except ValueError as error:  # of pydantic, or of an unknown state
        raise StudyUnreadable(row.id) from error
    return Study(
        id=row.id,
        name=row.name,
        state=state,
        reason=row.reason,
        spec=spec,
        facts=facts,
        checked=row.facts is not None or getattr(row, "checked", False),
        confirmation=confirmation,
        created=row.created,
        seq=row.seq,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        recheck=row.recheck,
        idle_seconds=row.idle_seconds,
    )


def readable(rows: Iterable[Row[Any]]) -> Iterator[tuple[Row[Any], Study]]:
    """Each row with its study. Unreadable studies are logged and left out, so that they do not block the others."""
    for row in rows:
        try:
            yield row, study_of(row)
        except StudyUnreadable as error:
            _log_unreadable(row.id, str(error.__cause__))


@lru_cache(maxsize=512)
def _log_unreadable(study_id: str, why: str) -> None:
    """Log the error once for each study and reason."""
    log.error("study %s is skipped because it cannot be read: %s", study_id, why)


def trial_of(row: Row[Any]) -> Trial:
    """The trial of a whole row."""
    return Trial(**_trial_fields(row))


def held_trial_of(row: Row[Any]) -> HeldTrial:
    """The trial of a whole row, with the counters for writers."""
    return HeldTrial(
        **_trial_fields(row), lost=row.lost, crashes=row.crashes, heartbeat=row.heartbeat, least_device_bytes=row.least_device_bytes
    )


def _trial_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "study": row.study_id,
        "number": row.number,
        "state": TrialState(row.state),
        "params": row.params,
        "value": row.value,
        "value_kind": ValueKind(row.value_kind),
        "metrics": decode_metrics(row.metrics),
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
    """The columns that updates change."""
    return {
        "state": trial.state,
        "value": trial.value,
        "value_kind": trial.value_kind,
        "metrics": encode_metrics(trial.metrics),
        "step": trial.step,
        "attempt": trial.attempt,
        "lost": trial.lost,
        "crashes": trial.crashes,
        "heartbeat": trial.heartbeat,
        "least_device_bytes": trial.least_device_bytes,
        "worker": trial.worker and cleaned(trial.worker),
        "checkpoints": [one.model_dump() for one in trial.checkpoints],
        "reason": trial.reason,
        "detail": trial.detail and cleaned(trial.detail),
        "duplicate_of": trial.duplicate_of,
        "memory": dict(trial.memory),
        "result": dict(trial.result),
        "changed": trial.changed,
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
    }


def first_columns_of(trial: HeldTrial) -> dict[str, Any]:
    """All columns of a new trial except its key."""
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


def metric_of(row: Row[Any]) -> ReportedMetric:
    """The metric of a row."""
    return ReportedMetric(step=row.step, name=row.name, value=number_of(row.value, row.kind), attempt=row.attempt)


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
        device_names=tuple(row.device_names or ()),
        unusable=tuple(UnusableDevice(**one) for one in row.unusable or ()),
        scripts=tuple(row.scripts or ()),
        set_aside=row.set_aside,
    )
