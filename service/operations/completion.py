"""What follows when trials end: duplicates complete, the study ends, or its confirmation begins and goes on round by round."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.confirmation.race import FIRST_ROUNDS, arms_of, next_round
from service.domain import failures
from service.domain.records import Confirmation, Study, Trial
from service.domain.states import AttemptEnd, EventKind, StudyState, TrialState
from service.store import Store
from service.store.codec import storable
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, locked
from service.timing import steady

KIND_OF_END = {
    TrialState.COMPLETE: EventKind.TRIAL_COMPLETED,
    TrialState.PRUNED: EventKind.TRIAL_PRUNED,
    TrialState.FAILED: EventKind.TRIAL_FAILED,
    TrialState.CANCELLED: EventKind.TRIAL_CANCELLED,
}
ATTEMPT_RESULTS = ("reuse", "pace")
"""Parts of a result that belong to one attempt. The next attempt and duplicates do not inherit them."""


def result_holds_for_duplicates(trial: Trial) -> bool:
    """Whether duplicates copy the trial's result. They do not copy failures that need not recur, such as a crash."""
    policy = failures.policy_of(trial)
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or (policy is not None and policy.answers)


def end(uow: StudyUnitOfWork, trial: HeldTrial, state: TrialState, **changes: Any) -> HeldTrial:
    """End a trial and emit its event. The caller runs `finalize` afterwards, which handles duplicates and the end of the study."""
    return uow.save(completion_event(replace(trial, state=state, finished_at=uow.now, **changes)))


def completion_event(trial: HeldTrial) -> Step:
    """The step to a terminal state."""
    body = {
        "value": trial.value,
        "reason": trial.reason,
        "detail": trial.detail,
        "worker": trial.worker,
        "duplicate_of": trial.duplicate_of,
    }
    return Step(trial, KIND_OF_END[trial.state], body)


def copy_result(duplicate: HeldTrial, original: Trial, now: float) -> HeldTrial:
    """The duplicate, ended with the state and result of its original."""
    return replace(
        duplicate,
        state=original.state,
        value=original.value,
        value_kind=original.value_kind,
        metrics=original.metrics,
        step=original.step,
        reason=original.reason,
        detail=original.detail,
        duplicate_of=original.number,
        source="duplicate",
        result=without(original.result, ATTEMPT_RESULTS),
        finished_at=now,
    )


def finalize(uow: StudyUnitOfWork) -> None:
    """Handle the trials that ended in this transaction.

    Their duplicates get the result or are queued for training. The study ends when nothing is left to do or too many trials failed.
    """
    ended = {trial.number: trial for trial in uow.ended}
    if not ended:
        return
    waiting = uow.waiting_for(ended)
    for number, original in ended.items():
        duplicates = [one for one in waiting if one.duplicate_of == number]
        if result_holds_for_duplicates(original):
            _copy_results(uow, duplicates, original)
        else:
            _release(uow, duplicates)
    _fail_if_needed(uow, sorted(ended.values(), key=lambda one: one.changed))
    complete_if_spent(uow)


def _fail_if_needed(uow: StudyUnitOfWork, ended: Sequence[HeldTrial]) -> None:
    """Fail the study when a failure of this kind ends studies, or when `limits.failures` trials in a row failed."""
    uow.failures = failures.in_a_row(uow.failures, [one for one in ended if one.round is None])
    fatal = next((one for one in ended if (policy := failures.policy_of(one)) is not None and policy.ends_study), None)
    limit = uow.study.spec.limits.failures
    if uow.study.state.terminal:
        return
    if fatal is not None:
        close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, f"{fatal.reason} in trial {fatal.number}: {fatal.detail}")
    elif limit is not None and uow.failures >= limit:
        reason = failures.summary(uow.last_failed(failures.COUNTING, uow.failures))
        close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, storable(reason))


def close(uow: StudyUnitOfWork, state: StudyState, kind: EventKind, reason: str | None) -> None:
    """End the study. Open trials are cancelled; those of a failed study return to the queue, because it can be resumed."""
    for trial in uow.open_trials():
        if state is not StudyState.FAILED:
            end(uow, trial, TrialState.CANCELLED)
        elif trial.state is TrialState.RUNNING:
            requeue(uow, trial, AttemptEnd.RELEASED, "released because the study failed")
    uow.study = replace(uow.study, state=state, reason=reason, finished_at=uow.now)
    uow.emit(kind, state=state, reason=reason)


def requeue(uow: StudyUnitOfWork, trial: HeldTrial, how: AttemptEnd, why: str | None = None) -> HeldTrial:
    """End the trial's attempt and put the trial back into the queue."""
    body = {"lost": how is AttemptEnd.LOST, "ending": how, "worker": trial.worker, "detail": why}
    return uow.save(Step(replace(trial, state=TrialState.QUEUED, worker=None), EventKind.TRIAL_REQUEUED, body, why))


def reopen(uow: StudyUnitOfWork) -> None:
    """Make an ended study active again. The caller emits the event.

    The time since its end does not count towards the hours of its budget.
    """
    study = uow.study
    idle = 0.0 if study.finished_at is None else max(0.0, uow.now - study.finished_at)
    uow.failures = 0
    uow.study = replace(study, state=StudyState.ACTIVE, reason=None, finished_at=None, idle_seconds=study.idle_seconds + idle)


def _copy_results(uow: StudyUnitOfWork, duplicates: Sequence[HeldTrial], original: HeldTrial) -> None:
    for duplicate in duplicates:
        uow.metrics.copy_to(uow.save(completion_event(copy_result(duplicate, original, uow.now))))


def _release(uow: StudyUnitOfWork, duplicates: Sequence[HeldTrial]) -> None:
    """Queue the first duplicate for training in place of the original. The other duplicates wait for it."""
    for index, duplicate in enumerate(duplicates):
        original = None if index == 0 else duplicates[0].number
        uow.save(Step(replace(duplicate, duplicate_of=original), EventKind.TRIAL_QUEUED, {"duplicate_of": original}))


def without(document: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A copy of the document without these names."""
    return {name: value for name, value in document.items() if name not in names}


def complete_if_spent(uow: StudyUnitOfWork) -> None:
    """Complete the study when no trial is open and none may be added. After its hours, cancel the trials that were never started.

    A study with `confirm` is completed by `carry_on` instead.
    """
    study = uow.study
    if not study.state.terminal and hours_are_over(study):
        _cancel_unstarted(uow)
    if study.spec.confirm is None and has_nothing_left(uow):
        complete(uow)


def has_nothing_left(uow: StudyUnitOfWork) -> bool:
    """Whether the study has not ended, no trial is open and the search adds none."""
    study = uow.study
    return not study.state.terminal and (uow.exhausted or is_spent(study)) and not uow.has_open()


def complete(uow: StudyUnitOfWork) -> None:
    """Complete the study. Without a complete trial, its reason is a summary of the failures."""
    reason = _why_no_result(uow)
    uow.study = replace(uow.study, state=StudyState.COMPLETE, reason=reason, finished_at=uow.now)
    uow.emit(EventKind.STUDY_COMPLETED, state=StudyState.COMPLETE, reason=reason)


def _why_no_result(uow: StudyUnitOfWork) -> str | None:
    ends = uow.count_ends()
    if any(state is TrialState.COMPLETE for state, _ in ends):
        return None
    last = uow.last_ended()
    return storable(failures.no_result(ends, last.detail or last.reason if last is not None else None))


def _cancel_unstarted(uow: StudyUnitOfWork) -> None:
    """Cancel unstarted trials of every source: the hours bound the cost of the study. Duplicates of running trials still wait."""
    detail = f"it was not started within the study's {uow.study.spec.budget.hours:g} hours"
    cancelled = set[int]()
    for trial in uow.unstarted():
        if trial.duplicate_of is None or trial.duplicate_of in cancelled:
            cancelled.add(trial.number)
            end(uow, trial, TrialState.CANCELLED, detail=detail)


def is_spent(study: Study) -> bool:
    """Whether the budget allows no new trial."""
    return study.created >= study.spec.budget.max_trials or hours_are_over(study)


def hours_are_over(study: Study) -> bool:
    """Whether the budget's hours have passed. Trials that were started before may end, also after a lost worker."""
    budget = study.spec.budget
    return budget.hours is not None and study.started_at is not None and hours_used(study) >= budget.hours


def hours_used(study: Study) -> float:
    """Hours since the first claim, without the time during which the study was ended."""
    if study.started_at is None:
        return 0.0
    until = steady() if study.finished_at is None else study.finished_at
    return max(0.0, until - study.started_at - study.idle_seconds) / 3600


def carry_on(store: Store, study: Study) -> None:
    """Queue the next confirmation round of a study without open trials, or complete the study.

    Workers call it when they look for work: a budget's hours can pass while no trial runs, so no trial's end triggers it.
    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study.id) as uow:
        complete_if_spent(uow)
        if has_nothing_left(uow):
            _begin_confirmation(uow) if uow.study.confirmation is None else _queue_next_round(uow)


def _begin_confirmation(uow: StudyUnitOfWork) -> None:
    """Choose the trials to compare and queue the first rounds at once: the race eliminates none on fewer than FIRST_ROUNDS."""
    confirm = uow.study.spec.confirm
    best = uow.best(confirm.top) if confirm is not None else []
    if confirm is None or not best:
        complete(uow)
        return
    baseline = uow.baseline() or best[0]
    arms = best if any(one.number == baseline.number for one in best) else [*best, baseline]
    uow.study = replace(uow.study, confirmation=Confirmation(arms=tuple(one.number for one in arms), baseline=baseline.number))
    uow.emit(EventKind.STUDY_CONFIRMING, state=uow.study.state, arms=[one.number for one in arms], baseline=baseline.number)
    for round in range(1, min(FIRST_ROUNDS, confirm.seeds) + 1):
        _queue_round(uow, arms, round)


def _queue_next_round(uow: StudyUnitOfWork) -> None:
    """Queue the next round for the arms that are left in the race, or complete the study after the last seed."""
    study = uow.study
    if study.spec.confirm is None or study.confirmation is None:
        raise ValueError(f"study {study.id} has no confirmation")
    searched = {one.number: one for one in uow.trials_numbered(study.confirmation.arms)}
    examples = study.facts.sizes.get("test", 0) if study.facts is not None else 0
    arms = arms_of(study.spec, study.confirmation, searched.values(), uow.confirmation_trials(), examples)
    if (coming := next_round(arms, study.spec.objective.direction, study.spec.confirm.seeds)) is None:
        complete(uow)
    else:
        _queue_round(uow, [searched[number] for number in coming.arms], coming.round)


def _queue_round(uow: StudyUnitOfWork, arms: Iterable[HeldTrial], round: int) -> None:
    for one in arms:
        new = uow.new_repeat(one, round)
        body = {"params": dict(new.params), "source": new.source, "confirms": new.confirms, "round": new.round}
        uow.add([Step(new, EventKind.TRIAL_QUEUED, body)])
