"""Writes that concern a study as a whole."""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from service.domain.errors import QuotaExceeded, StudyClosed
from service.domain.events import EventKind
from service.domain.records import Study
from service.domain.spec import StudySpec
from service.domain.states import StudyState
from service.operations import idempotency as keys
from service.operations.endings import close
from service.operations.idempotency import Idempotency
from service.store import Store, queries, registry
from service.store.codec import storable
from service.store.ledger import Ledger, Step, locked
from trainer.contract import Facts


def create_study(store: Store, spec: StudySpec, idempotency: Idempotency | None = None, most: int | None = None) -> Study:
    """Create a study; a baseline is queued as its trial 0. Raises NameTaken, QuotaExceeded, IdempotencyConflict, Replay.

    `most` bounds the studies that there may be; on PostgreSQL, some that come at the same moment may pass together.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        if most is not None and queries.count_studies(tx) >= most:
            raise QuotaExceeded(most)
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


def pause_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """Start no more trials; running ones go on. Raises StudyNotFound, StudyClosed, IdempotencyConflict, Replay."""
    return _change(store, study, idempotency, partial(_turn, state=StudyState.PAUSED, kind=EventKind.STUDY_PAUSED))


def resume_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """Start trials again. Raises StudyNotFound, StudyClosed, IdempotencyConflict, Replay."""
    return _change(store, study, idempotency, partial(_turn, state=StudyState.ACTIVE, kind=EventKind.STUDY_RESUMED))


def stop_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """End the study; trials that are open are cancelled.

    Raises StudyNotFound, StudyClosed when it ended otherwise before, IdempotencyConflict, Replay.
    """
    return _change(store, study, idempotency, _stop)


def _change(store: Store, study: str, idempotency: Idempotency | None, change: Callable[[Ledger], None]) -> Study:
    with store.writing() as tx:
        keys.take(tx, idempotency)
        with locked(tx, study) as ledger:
            change(ledger)
        keys.keep(tx, idempotency, ledger.study)
    return ledger.study


def _turn(ledger: Ledger, state: StudyState, kind: EventKind) -> None:
    _refuse_closed(ledger.study)
    if ledger.study.state is not state:
        ledger.study = replace(ledger.study, state=state)
        ledger.tell(kind, state=state)


def _stop(ledger: Ledger) -> None:
    if ledger.study.state is not StudyState.STOPPED:
        _refuse_closed(ledger.study)
        close(ledger, StudyState.STOPPED, EventKind.STUDY_STOPPED, None)


def fail_study(store: Store, study: str, reason: str) -> Study:
    """End a study that cannot run; trials that are open are cancelled. Nothing changes when it has ended already. Raises StudyNotFound."""
    with store.writing() as tx, locked(tx, study) as ledger:
        if not ledger.study.state.terminal:
            close(ledger, StudyState.FAILED, EventKind.STUDY_FAILED, storable(reason))
    return ledger.study


def delete_study(store: Store, study: str, idempotency: Idempotency | None = None) -> None:
    """Delete the study with all its trials and events. Raises StudyNotFound, IdempotencyConflict, Replay."""
    with store.writing() as tx:
        keys.take(tx, idempotency)
        registry.delete_study(tx, study)
        keys.keep(tx, idempotency, None)


def pass_check(store: Store, study: str, facts: Facts, manifest: str | None = None) -> Study:
    """Data and weights are sound: trials may start. The first facts and their manifest stay; later ones change nothing.

    Raises StudyNotFound.
    """
    with store.writing() as tx, locked(tx, study) as ledger:
        if ledger.study.facts is None and not ledger.study.state.terminal:
            ledger.study = replace(ledger.study, facts=facts)
            if manifest is not None:
                registry.keep_manifest(tx, ledger.study.id, manifest)
            ledger.tell(EventKind.STUDY_CHECKED, state=ledger.study.state, classes=len(facts.classes), images=dict(facts.images))
    return ledger.study


def _refuse_closed(study: Study) -> None:
    if study.state.terminal:
        raise StudyClosed(f"The study is {study.state}; that is its last state.")
