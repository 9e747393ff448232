"""Imports a study from a file: several transactions write a hidden study, and the last one publishes it."""

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO

from service.domain.errors import NameTaken, QuotaExceeded, StoreUnavailable
from service.domain.records import Study
from service.domain.states import EventKind, StudyState, TrialState, ValueKind
from service.operations import idempotency as keys
from service.operations.completion import completion_event
from service.operations.idempotency import Idempotency
from service.store import Store, Transaction, queries, registry
from service.store.codec import decode_metrics, kind_of
from service.store.dialects import MetricRow, insert_metrics, metric_rows
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, unpublished
from service.study_io.format import again, seconds_of
from service.study_io.import_ import Header

log = logging.getLogger(__name__)

ROWS = 20_000  # metric rows in one transaction: a tenth of a second, during which SQLite blocks other writers
TRIALS = 100  # in one transaction
BYTES = 4 * 1024 * 1024  # of trials in one transaction, as lines of the file; a single trial may have more
WAIT_SECONDS = 60.0  # for another import of the same name, which may be the same request
POLL_SECONDS = 0.25
NOT_ENDED = "imported; it had not ended"
OPEN_TRIAL = "imported while open"
KINDS = {
    StudyState.COMPLETE: EventKind.STUDY_COMPLETED,
    StudyState.STOPPED: EventKind.STUDY_STOPPED,
    StudyState.FAILED: EventKind.STUDY_FAILED,
    StudyState.PAUSED: EventKind.STUDY_PAUSED,
}


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of an import."""

    most_studies: int | None = None  # on the server, ended ones included
    require_room: Callable[[], None] = lambda: None  # called before each transaction; raises DiskFull


UNLIMITED = Quota()


def import_study(
    store: Store, header: Header, file: BinaryIO, *, paused: bool, idempotency: Idempotency | None = None, quota: Quota = UNLIMITED
) -> Study:
    """Import the study of a validated file under a new id.

    Open trials become cancelled, and a study that had not ended becomes stopped. With `paused` the study becomes paused in every case
    and can be resumed: the sampler learns from the imported trials, the budget's hours start again at zero, and the baseline is queued
    if the file has none.

    Raises NameTaken, QuotaExceeded, IdempotencyConflict, Replay, DiskFull, StoreUnavailable. The study is then not visible, its name
    is free, and a server's sweeper removes its rows.
    """
    new = _newborn(header)
    _reserve(store, new, idempotency, quota)
    writing = _Writing(store, new.id, quota)
    try:
        writing.begin(header)
        writing.add_trials(again(file))
        return writing.publish(header, paused, idempotency)
    except BaseException:
        _give_up(store, new.id)
        raise


def _newborn(header: Header) -> Study:
    return Study(
        id=secrets.token_hex(8), name=header.spec.name, state=StudyState.STOPPED, reason=None, spec=header.spec, facts=None,
        created=0, seq=0, created_at=header.line.created_at, started_at=None, finished_at=None,
    )  # fmt: skip


def _reserve(store: Store, new: Study, idempotency: Idempotency | None, quota: Quota) -> None:
    """Reserve the name. A request with a key waits while another import has the name, which may be the same request sent before."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with store.writing() as tx:
                keys.refuse_answered(tx, idempotency)
                _refuse_more(tx, quota)
                registry.insert_study(tx, new, published=False)
                return
        except NameTaken:
            keyed = idempotency is not None and idempotency.key is not None
            if not keyed or time.monotonic() > deadline or not store.read(queries.is_being_imported, new.name):
                store.read(keys.refuse_answered, idempotency)  # the other request may have ended since
                raise
        time.sleep(POLL_SECONDS)


def _refuse_more(tx: Transaction, quota: Quota) -> None:
    if quota.most_studies is not None and queries.count_studies(tx) >= quota.most_studies:
        raise QuotaExceeded(quota.most_studies)


def _give_up(store: Store, study_id: str) -> None:
    """Free the name. If the store is unavailable, a sweeper later gives up the import because it makes no progress."""
    try:
        with store.writing() as tx:
            registry.give_up_import(tx, study_id)
    except StoreUnavailable as error:
        log.warning("the failed import of study %s could not be marked for removal: %s", study_id, error)


class _Writing:
    """The transactions of one import.

    Each increments the counter in the study's row and fails if the counter differs from the expected one: a sweep has then given up
    the import, and its rows are being removed.
    """

    def __init__(self, store: Store, study_id: str, quota: Quota) -> None:
        self._store = store
        self._study = study_id
        self._quota = quota
        self._writes = 0
        self._rows: list[MetricRow] = []

    def begin(self, header: Header) -> None:
        """Write the first events, so that readers of the event stream see the study's history in short."""
        with self._store.writing() as tx, unpublished(tx, self._study, self._writes) as uow:
            uow.emit(EventKind.STUDY_CREATED, state=StudyState.ACTIVE, name=uow.study.name, imported=True)
            if (facts := header.line.facts) is not None:
                uow.emit(EventKind.STUDY_CHECKED, state=StudyState.ACTIVE, **facts.checked)
            if (known := header.line.confirmation) is not None:
                uow.emit(EventKind.STUDY_CONFIRMING, state=StudyState.ACTIVE, arms=list(known.arms), baseline=known.baseline)
        self._writes += 1

    def add_trials(self, documents: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Insert the trials and their metrics. Each item is a line's length in bytes and its document."""
        batch, size, last = list[Mapping[str, Any]](), 0, list[HeldTrial]()
        for length, document in documents:
            if document["kind"] == "thawline/reports":
                last, batch, size = self._trials(batch) or last, [], 0
                self._metrics(last[-1], document)
            elif document["kind"] == "thawline/trial":
                if size + length > BYTES:
                    last, batch, size = self._trials(batch) or last, [], 0
                batch.append(document)
                size += length
            if len(batch) >= TRIALS:
                last, batch, size = self._trials(batch), [], 0
        self._trials(batch)
        self._insert()

    def publish(self, header: Header, paused: bool, idempotency: Idempotency | None) -> Study:
        """Make the study visible, in the last transaction."""
        self._quota.require_room()
        with self._store.writing() as tx:
            keys.take(tx, idempotency)
            _refuse_more(tx, self._quota)
            with unpublished(tx, self._study, self._writes, publish=True) as uow:
                facts = header.line.facts
                uow.study = replace(uow.study, facts=facts, checked=facts is not None, confirmation=header.line.confirmation)
                _go_on(uow) if paused else _end(uow, header)
            keys.keep(tx, idempotency, uow.study)
        return uow.study

    def _trials(self, batch: list[Mapping[str, Any]]) -> list[HeldTrial]:
        if not batch:
            return []
        self._quota.require_room()
        with self._store.writing() as tx, unpublished(tx, self._study, self._writes) as uow:
            added = uow.add([completion_event(_trial(uow, document)) for document in batch])
        self._writes += 1
        for one, document in zip(added, batch, strict=True):
            self._metrics(one, document["reports"])
        return added

    def _metrics(self, one: HeldTrial, reports: Mapping[str, Any]) -> None:
        rows = metric_rows(one, reports["steps"], reports["metrics"])
        while piece := list(islice(rows, ROWS - len(self._rows))):
            self._rows += piece
            if len(self._rows) >= ROWS:
                self._insert()

    def _insert(self) -> None:
        if not self._rows:
            return
        self._quota.require_room()
        with self._store.writing() as tx, unpublished(tx, self._study, self._writes):
            insert_metrics(tx, self._rows)
        self._writes += 1
        self._rows = []


def _end(uow: StudyUnitOfWork, header: Header) -> None:
    was = header.line
    state, reason, finished_at = (
        (was.state, was.reason, was.finished_at or uow.now) if was.state.terminal else (StudyState.STOPPED, NOT_ENDED, uow.now)
    )
    uow.study = replace(uow.study, state=state, reason=reason, started_at=was.started_at, finished_at=finished_at)
    uow.emit(KINDS[state], state=state, reason=reason)


def _go_on(uow: StudyUnitOfWork) -> None:
    spec = uow.study.spec
    if spec.baseline is not None and uow.baseline() is None and uow.study.created < spec.budget.max_trials:
        baseline = uow.new_trial(spec.baseline, source="baseline")
        uow.add([Step(baseline, EventKind.TRIAL_QUEUED, {"params": dict(baseline.params), "source": baseline.source})])
    uow.study = replace(uow.study, state=StudyState.PAUSED)
    uow.emit(EventKind.STUDY_PAUSED, state=StudyState.PAUSED)


def _trial(uow: StudyUnitOfWork, document: Mapping[str, Any]) -> HeldTrial:
    """The study's next trial, with the state and result of the line."""
    new = uow.new_trial(document["params"], source=document["source"])
    state, value = TrialState(document["state"]), document["value"]
    finished_at = seconds_of(document["finished_at"])
    taken = {
        name: document[name] for name in ("step", "attempt", "reason", "detail", "worker", "duplicate_of", "confirms", "round", "result")
    }
    if not state.terminal:
        state, finished_at, taken["detail"] = TrialState.CANCELLED, finished_at or uow.now, OPEN_TRIAL
    return replace(
        new,
        **taken,
        state=state,
        value=None if value is None or isinstance(value, str) else float(value),
        value_kind=ValueKind(value) if isinstance(value, str) else kind_of(value),
        metrics=decode_metrics(document["metrics"]),
        queued_at=seconds_of(document["queued_at"]) or 0.0,
        started_at=seconds_of(document["started_at"]),
        finished_at=finished_at,
    )


def sweep_imports(store: Store, seen: Mapping[str, int]) -> dict[str, int]:
    """Give up imports without progress since the last sweep; `remove_hidden` removes their rows.

    `seen` is the return value of the last sweep, a minute ago: transactions by study id. Raises StoreUnavailable.
    """
    now = store.read(registry.hidden_studies)
    for study_id, writes in now.items():
        if writes >= 0 and seen.get(study_id) == writes:
            with store.writing() as tx:
                registry.give_up_import(tx, study_id, writes)
            log.warning("the import of study %s made no progress and was given up", study_id)
    return now


def remove_hidden(store: Store) -> bool:
    """Remove some rows of a deleted study or a given-up import, in one transaction.

    Returns whether more rows are left. Raises StoreUnavailable.
    """
    given_up = [study_id for study_id, writes in store.read(registry.hidden_studies).items() if writes < 0]
    if not given_up:
        return False
    with store.writing() as tx:
        removed = registry.remove_given_up(tx, given_up[0])
    return not removed or len(given_up) > 1
