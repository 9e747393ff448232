"""Queues and cancels trials on request."""

from collections.abc import Sequence

from search_spaces import Params
from service.domain.errors import BudgetSpent, StudyClosed, TrialClosed
from service.domain.records import Trial
from service.domain.states import EventKind, TrialState
from service.operations import idempotency as keys
from service.operations.completion import end, finalize, is_spent
from service.operations.idempotency import Idempotency
from service.store import Store, Transaction
from service.store.unit_of_work import Step, locked


def queue_trial(store: Store, study: str, params: Params, idempotency: Idempotency | None = None) -> Trial:
    """Queue one trial; see `enqueue_trials`."""
    with store.writing() as tx:
        keys.take(tx, idempotency)
        (trial,) = _enqueue(tx, study, [params])
        keys.keep(tx, idempotency, trial)
        return trial


def enqueue_trials(store: Store, study: str, trials: Sequence[Params], idempotency: Idempotency | None = None) -> list[Trial]:
    """Queue a trial for each of the validated parameters: all of them or none.

    Each is trained even if an earlier trial had the same parameters.

    Raises StudyNotFound, StudyClosed, BudgetSpent, IdempotencyConflict, Replay.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        queued = _enqueue(tx, study, trials)
        keys.keep(tx, idempotency, queued)
        return queued


def _enqueue(tx: Transaction, study: str, trials: Sequence[Params]) -> list[Trial]:
    with locked(tx, study) as uow:
        if uow.study.state.terminal:
            raise StudyClosed(f"The study is {uow.study.state}; no trial can be added.")
        if uow.study.confirmation is not None:
            raise StudyClosed("The search is over and its best configurations are being confirmed; no trial can be added.")
        left = uow.study.spec.budget.max_trials - uow.study.created
        if is_spent(uow.study) or len(trials) > left:
            raise BudgetSpent
        new = [uow.new_trial(dict(params), source="user") for params in trials]
        return [*uow.add([Step(one, EventKind.TRIAL_QUEUED, {"params": dict(one.params), "source": one.source}) for one in new])]


def cancel_trial(store: Store, study: str, number: int, idempotency: Idempotency | None = None) -> Trial:
    """Cancel a trial that has not ended. Its worker loses the lease and notices it at the next heartbeat.

    Raises StudyNotFound, TrialNotFound, TrialClosed, IdempotencyConflict, Replay.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        with locked(tx, study) as uow:
            trial = uow.numbered(number)
            if trial.state.terminal:
                raise TrialClosed(f"Trial {number} is {trial.state} already.")
            cancelled = end(uow, trial, TrialState.CANCELLED)
            finalize(uow)
        keys.keep(tx, idempotency, cancelled)
    return cancelled
