"""Writes that people make to single trials."""

from collections.abc import Mapping

from search_spaces import Scalar
from service.domain.errors import BudgetSpent, StudyClosed, TrialClosed
from service.domain.events import EventKind
from service.domain.records import Trial
from service.domain.states import TrialState
from service.operations import idempotency as keys
from service.operations.endings import end, is_spent, settle
from service.operations.idempotency import Idempotency
from service.store import Store
from service.store.ledger import Step, locked


def queue_trial(store: Store, study: str, params: Mapping[str, Scalar], idempotency: Idempotency | None = None) -> Trial:
    """Queue a trial with parameters that were checked. It is trained even if an earlier one had the same.

    Raises StudyNotFound, StudyClosed, BudgetSpent, IdempotencyConflict, Replay.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        with locked(tx, study) as ledger:
            if ledger.study.state.terminal:
                raise StudyClosed(f"The study is {ledger.study.state}; no trial can be added.")
            if is_spent(ledger.study, ledger.now):
                raise BudgetSpent
            new = ledger.new_trial(dict(params), source="user")
            trial = ledger.add([Step(new, EventKind.TRIAL_QUEUED, {"params": dict(params), "source": new.source})])[0]
        keys.keep(tx, idempotency, trial)
        return trial


def cancel_trial(store: Store, study: str, number: int) -> Trial:
    """Cancel a trial that has not ended; its worker learns it from the next heartbeat. Raises StudyNotFound, TrialNotFound, TrialClosed."""
    with store.writing() as tx, locked(tx, study) as ledger:
        trial = ledger.numbered(number)
        if trial.state.terminal:
            raise TrialClosed(f"Trial {number} is {trial.state} already.")
        cancelled = end(ledger, trial, TrialState.CANCELLED)
        settle(ledger)
    return cancelled
