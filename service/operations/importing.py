"""A study from a file: all of it in one transaction, as it was, or ended where it cannot go on."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from service.domain.errors import QuotaExceeded
from service.domain.events import EventKind
from service.domain.records import Study
from service.domain.states import StudyState, TrialState, ValueKind
from service.operations import idempotency as keys
from service.operations.endings import ending
from service.operations.idempotency import Idempotency
from service.store import Store, Transaction, queries, registry
from service.store.carrying import Carrier
from service.store.codec import kind_of, without_words
from service.store.ledger import Ledger, Step, locked
from service.store.rows import HeldTrial
from service.travel.checking import Header
from service.travel.form import seconds_of
from service.travel.reading import again

BATCH = 100  # trials in one statement
NOT_ENDED = "imported; it had not ended"
OPEN_TRIAL = "imported while open"
KINDS = {
    StudyState.COMPLETE: EventKind.STUDY_COMPLETED,
    StudyState.STOPPED: EventKind.STUDY_STOPPED,
    StudyState.FAILED: EventKind.STUDY_FAILED,
    StudyState.PAUSED: EventKind.STUDY_PAUSED,
}


def import_study(
    store: Store, header: Header, file: BinaryIO, *, paused: bool, idempotency: Idempotency | None = None, most: int | None = None
) -> Study:
    """The study of a file whose lines were found sound, under a new id. Raises NameTaken, QuotaExceeded, IdempotencyConflict, Replay.

    Trials that were open come as cancelled, a study that had not ended as stopped. `paused`: it comes paused, whatever it was, and can be
    resumed: its sampler then learns from the trials, and its hours begin anew; the baseline is queued if the file has none.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        if most is not None and queries.count_studies(tx) >= most:
            raise QuotaExceeded(most)
        new = _newborn(header)
        registry.insert_study(tx, new)
        with locked(tx, new.id) as ledger:
            _begin(ledger, header)
        _bring_trials(tx, new.id, again(file))
        with locked(tx, new.id) as ledger:
            _go_on(ledger) if paused else _end(ledger, header)
        keys.keep(tx, idempotency, ledger.study)
        return ledger.study


def _newborn(header: Header) -> Study:
    return Study(
        id=secrets.token_hex(8), name=header.spec.name, state=StudyState.ACTIVE, reason=None, spec=header.spec, facts=None,
        created=0, seq=0, created_at=header.line.created_at, started_at=None, finished_at=None,
    )  # fmt: skip


def _begin(ledger: Ledger, header: Header) -> None:
    """A short history, so that whoever follows the study's events sees what is there."""
    ledger.study = replace(ledger.study, facts=header.line.facts, confirmation=header.line.confirmation)
    ledger.tell(EventKind.STUDY_CREATED, state=ledger.study.state, name=ledger.study.name, imported=True)
    if (facts := header.line.facts) is not None:
        ledger.tell(EventKind.STUDY_CHECKED, state=ledger.study.state, classes=len(facts.classes), images=dict(facts.images))
    if (known := header.line.confirmation) is not None:
        ledger.tell(EventKind.STUDY_CONFIRMING, state=ledger.study.state, arms=list(known.arms), baseline=known.baseline)


def _end(ledger: Ledger, header: Header) -> None:
    was = header.line
    state, reason, finished_at = (
        (was.state, was.reason, was.finished_at or ledger.now) if was.state.terminal else (StudyState.STOPPED, NOT_ENDED, ledger.now)
    )
    ledger.study = replace(ledger.study, state=state, reason=reason, started_at=was.started_at, finished_at=finished_at)
    ledger.tell(KINDS[state], state=state, reason=reason)


def _go_on(ledger: Ledger) -> None:
    spec = ledger.study.spec
    if spec.baseline is not None and ledger.baseline() is None and ledger.study.created < spec.budget.max_trials:
        baseline = ledger.new_trial(spec.baseline, source="baseline")
        ledger.add([Step(baseline, EventKind.TRIAL_QUEUED, {"params": dict(baseline.params), "source": baseline.source})])
    ledger.study = replace(ledger.study, state=StudyState.PAUSED)
    ledger.tell(EventKind.STUDY_PAUSED, state=StudyState.PAUSED)


def _bring_trials(tx: Transaction, study: str, documents: Iterable[Mapping[str, Any]]) -> None:
    """The ledger is written once for each batch, so that no more than that is in memory."""
    carrier, batch, last = Carrier(tx), list[Mapping[str, Any]](), list[HeldTrial]()
    for document in documents:
        if document["kind"] == "thawline/reports":
            last, batch = _add(tx, study, batch, carrier) or last, []
            carrier.add(last[-1], document["steps"], document["metrics"])
        elif document["kind"] == "thawline/trial":
            batch.append(document)
        if len(batch) >= BATCH:
            last, batch = _add(tx, study, batch, carrier), []
    _add(tx, study, batch, carrier)
    carrier.write()


def _add(tx: Transaction, study: str, batch: list[Mapping[str, Any]], carrier: Carrier) -> list[HeldTrial]:
    with locked(tx, study) as ledger:
        added = ledger.add([ending(_trial(ledger, document)) for document in batch])
    for one, document in zip(added, batch, strict=True):
        carrier.add(one, document["reports"]["steps"], document["reports"]["metrics"])
    return added


def _trial(ledger: Ledger, document: Mapping[str, Any]) -> HeldTrial:
    """The next trial of the study as the line says that it was."""
    new = ledger.new_trial(document["params"], source=document["source"])
    state, told = TrialState(document["state"]), document["value"]
    finished_at = seconds_of(document["finished_at"])
    taken = {
        name: document[name] for name in ("step", "attempt", "reason", "detail", "worker", "duplicate_of", "confirms", "round", "result")
    }
    if not state.terminal:
        state, finished_at, taken["detail"] = TrialState.CANCELLED, finished_at or ledger.now, OPEN_TRIAL
    return replace(
        new,
        **taken,
        state=state,
        value=None if isinstance(told, str) else told,
        value_kind=ValueKind(told) if isinstance(told, str) else kind_of(told),
        metrics=without_words(document["metrics"]),
        queued_at=seconds_of(document["queued_at"]) or 0.0,
        started_at=seconds_of(document["started_at"]),
        finished_at=finished_at,
    )
