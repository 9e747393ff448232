"""Writes that concern a study as a whole."""

import secrets
import time
from dataclasses import replace

from service.domain.errors import StudyClosed
from service.domain.events import EventKind
from service.domain.records import Study
from service.domain.spec import StudySpec
from service.domain.states import StudyState, TrialState
from service.operations import idempotency as keys
from service.operations.endings import end
from service.operations.idempotency import Idempotency
from service.store import Store, registry
from service.store.codec import storable
from service.store.ledger import Ledger, Step, locked
from trainer.contract import Facts


def create_study(store: Store, spec: StudySpec, idempotency: Idempotency | None = None) -> Study:
    """Create a study; a baseline is queued as its trial 0. Raises NameTaken, IdempotencyConflict, Replay."""
    with store.writing() as tx:
        keys.take(tx, idempotency)
        new = Study(
            id=secrets.token_hex(8), name=spec.name, state=StudyState.ACTIVE, reason=None, spec=spec, facts=None,
            created=0, seq=0, created_at=time.time(), started_at=None, finished_at=None,
        )  # fmt: skip
        registry.insert_study(tx, new)
        with locked(tx, new.id) as ledger:
            ledger.tell(EventKind.STUDY_CREATED, state=new.state, name=new.name)
            if spec.baseline is not None:
                baseline = ledger.new_trial(spec.baseline, source="baseline")
                ledger.add([Step(baseline, EventKind.TRIAL_QUEUED, {"params": dict(baseline.params), "source": baseline.source})])
        keys.keep(tx, idempotency, ledger.study)
        return ledger.study


def pause_study(store: Store, study: str) -> Study:
    """Start no more trials; running ones go on. Raises StudyNotFound, StudyClosed."""
    return _turn(store, study, StudyState.PAUSED, EventKind.STUDY_PAUSED)


def resume_study(store: Store, study: str) -> Study:
    """Start trials again. Raises StudyNotFound, StudyClosed."""
    return _turn(store, study, StudyState.ACTIVE, EventKind.STUDY_RESUMED)


def _turn(store: Store, study: str, state: StudyState, kind: EventKind) -> Study:
    with store.writing() as tx, locked(tx, study) as ledger:
        _refuse_closed(ledger.study)
        if ledger.study.state is not state:
            ledger.study = replace(ledger.study, state=state)
            ledger.tell(kind, state=state)
    return ledger.study


def stop_study(store: Store, study: str) -> Study:
    """End the study; trials that are open are cancelled. Raises StudyNotFound, StudyClosed when it ended otherwise before."""
    with store.writing() as tx, locked(tx, study) as ledger:
        if ledger.study.state is not StudyState.STOPPED:
            _refuse_closed(ledger.study)
            _close(ledger, StudyState.STOPPED, EventKind.STUDY_STOPPED, None)
    return ledger.study


def fail_study(store: Store, study: str, reason: str) -> Study:
    """End a study that cannot run; trials that are open are cancelled. Nothing changes when it has ended already. Raises StudyNotFound."""
    with store.writing() as tx, locked(tx, study) as ledger:
        if not ledger.study.state.terminal:
            _close(ledger, StudyState.FAILED, EventKind.STUDY_FAILED, storable(reason))
    return ledger.study


def _close(ledger: Ledger, state: StudyState, kind: EventKind, reason: str | None) -> None:
    for trial in ledger.open_trials():
        end(ledger, trial, TrialState.CANCELLED)
    ledger.study = replace(ledger.study, state=state, reason=reason, finished_at=ledger.now)
    ledger.tell(kind, state=state, reason=reason)


def delete_study(store: Store, study: str) -> None:
    """Delete the study with all its trials and events. Raises StudyNotFound."""
    with store.writing() as tx:
        registry.delete_study(tx, study)


def pass_check(store: Store, study: str, facts: Facts) -> Study:
    """Data and weights are sound: trials may start. The first facts stay; later ones change nothing. Raises StudyNotFound."""
    with store.writing() as tx, locked(tx, study) as ledger:
        if ledger.study.facts is None and not ledger.study.state.terminal:
            ledger.study = replace(ledger.study, facts=facts)
            ledger.tell(EventKind.STUDY_CHECKED, state=ledger.study.state, classes=len(facts.classes), images=dict(facts.images))
    return ledger.study


def _refuse_closed(study: Study) -> None:
    if study.state.terminal:
        raise StudyClosed(f"The study is {study.state}; that is its last state.")
