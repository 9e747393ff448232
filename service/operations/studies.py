"""Creates, changes, checks and deletes studies."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from search_spaces import Fault
from service.domain.budgets import BudgetChange
from service.domain.consistency import facts_faults, unrecorded, with_all_stages
from service.domain.errors import BudgetSpent, InvalidInput, NameTaken, QuotaExceeded, StudyClosed, StudyNotFound
from service.domain.records import Study
from service.domain.spec import Objective, StudySpec
from service.domain.states import EventKind, StudyState, TrialState
from service.operations import idempotency as keys
from service.operations.completion import close, complete_if_spent, has_nothing_left, hours_used, is_spent, reopen
from service.operations.idempotency import Idempotency
from service.store import Store, Transaction, queries, registry
from service.store.codec import finite, storable
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, locked
from trainer.configuration import DatasetInfo
from trainer.tasks.registry import spec_of

NO_TEST_EXAMPLES = (
    "confirm scores the winners on test {examples}, and the data's own split has none; add a test part, or create the study again with "
    "data.test, say 0.2, and without data.split"
)

CORRECT = "Correct the document and create the study again with replace: true"


def create_study(
    store: Store, spec: StudySpec, idempotency: Idempotency | None = None, most: int | None = None, *, replace_ended: bool = False
) -> Study:
    """Create a study. A baseline is queued as trial 0. Raises NameTaken, QuotaExceeded, IdempotencyConflict, Replay.

    `most` bounds the number of studies; on PostgreSQL, concurrent calls may exceed it. With `replace_ended` an ended study of the
    same name is renamed.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        if most is not None and queries.count_studies(tx) >= most:
            raise QuotaExceeded(most)
        new = Study(
            id=secrets.token_hex(8), name=spec.name, state=StudyState.ACTIVE, reason=None, spec=spec, facts=None,
            created=0, seq=0, created_at=time.time(), started_at=None, finished_at=None,
        )  # fmt: skip
        if replace_ended:
            _free_name(tx, spec.name)
        registry.insert_study(tx, new)
        with locked(tx, new.id) as uow:
            uow.emit(EventKind.STUDY_CREATED, state=new.state, name=new.name)
            if spec.baseline is not None:
                baseline = uow.new_trial(spec.baseline, source="baseline")
                uow.add([Step(baseline, EventKind.TRIAL_QUEUED, {"params": dict(baseline.params), "source": baseline.source})])
        keys.keep(tx, idempotency, uow.study)
        return uow.study


def _free_name(tx: Transaction, name: str) -> None:
    """Rename the ended study of that name, if there is one. Raises NameTaken when it has not ended."""
    try:
        with locked(tx, name) as uow:
            state = uow.study.state
            if not state.terminal:
                remedy = f"the study of this name is {state}; stop it first so that it can be replaced, or choose another name"
                raise NameTaken(name, remedy)
            uow.study = replace(uow.study, name=registry.unused_name(tx, name))
            uow.emit(EventKind.STUDY_RENAMED, state=state, name=uow.study.name, was=name)
    except StudyNotFound:
        pass


def pause_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """Start no more trials; running ones continue. Raises StudyNotFound, StudyClosed, IdempotencyConflict, Replay."""
    return _change(store, study, idempotency, partial(_set_state, state=StudyState.PAUSED, kind=EventKind.STUDY_PAUSED))


def resume_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """Make a paused, failed or stopped study active. Nothing changes when it is active.

    The data and weights of a failed study are checked again; then its open trials resume, and its count of failures in a row starts
    at zero. Trials that were cancelled when the study was stopped stay cancelled and count towards the budget.
    Raises StudyNotFound, StudyClosed for a complete study, BudgetSpent when nothing is left to do, IdempotencyConflict, Replay.
    """
    return _change(store, study, idempotency, _resume)


def extend_study(store: Store, study: str, change: BudgetChange, idempotency: Idempotency | None = None) -> Study:
    """Change the budget. A complete study whose new budget allows more trials becomes active; a failed or stopped one stays so.

    Raises StudyNotFound, InvalidInput for a budget below the trials or hours already used, StudyClosed when more trials are impossible,
    IdempotencyConflict, Replay.
    """
    return _change(store, study, idempotency, partial(_extend, change=change))


def rerank_study(store: Store, study: str, metric: str, idempotency: Idempotency | None = None) -> Study:
    """Rank the trials of a study that has ended by another metric, without training. Nothing changes when it is the objective's.

    Raises StudyNotFound, InvalidInput for a metric that the task lacks or that a complete trial did not record, StudyClosed for a study
    that has not ended or that has a confirmation, IdempotencyConflict, Replay.
    """
    return _change(store, study, idempotency, partial(_rerank, metric=metric))


def stop_study(store: Store, study: str, idempotency: Idempotency | None = None) -> Study:
    """End the study and cancel its open trials.

    Raises StudyNotFound, StudyClosed when the study is complete or failed, IdempotencyConflict, Replay.
    """
    return _change(store, study, idempotency, _stop)


def _change(store: Store, study: str, idempotency: Idempotency | None, change: Callable[[StudyUnitOfWork], None]) -> Study:
    with store.writing() as tx:
        keys.take(tx, idempotency)
        with locked(tx, study) as uow:
            change(uow)
        keys.keep(tx, idempotency, uow.study)
    return uow.study


def _set_state(uow: StudyUnitOfWork, state: StudyState, kind: EventKind) -> None:
    _refuse_closed(uow.study)
    if uow.study.state is not state:
        uow.study = replace(uow.study, state=state)
        uow.emit(kind, state=state)


def _resume(uow: StudyUnitOfWork) -> None:
    study = uow.study
    if study.state is StudyState.COMPLETE:
        raise StudyClosed("The study is complete. Raise its budget to go on: `thaw study extend`, or PATCH it with a larger budget.")
    if not study.state.terminal:
        _set_state(uow, StudyState.ACTIVE, EventKind.STUDY_RESUMED)
        return
    reopen(uow)
    if study.spec.confirm is None and has_nothing_left(uow):
        if uow.exhausted:
            raise BudgetSpent(f"{_tried_all(study)} and no trial is open, so nothing is left to do.")
        raise BudgetSpent(
            "The budget of the study is spent and no trial is open. Raise the budget, then resume: `thaw study extend`, "
            "or PATCH the study with a larger budget."
        )
    uow.study = replace(uow.study, recheck=study.state is StudyState.FAILED)
    uow.emit(EventKind.STUDY_RESUMED, state=StudyState.ACTIVE, was=study.state)


def _extend(uow: StudyUnitOfWork, change: BudgetChange) -> None:
    study = uow.study
    if study.confirmation is not None:
        raise StudyClosed(
            "The search of this study is over, and more trials would invalidate the confirmation that compared its best configurations. "
            "Create a study with a larger budget; `replace: true` gives it this study's name and renames this study."
        )
    budget = change.applied(study.spec.budget, created=study.created, hours_used=hours_used(study))
    if budget == study.spec.budget:
        return
    if uow.exhausted and budget.max_trials > study.spec.budget.max_trials:
        raise StudyClosed(f"{_tried_all(study)}, so a larger budget adds no trial. Widen the search space in a new study.")
    uow.study = replace(study, spec=study.spec.model_copy(update={"budget": budget}))
    if study.state is StudyState.COMPLETE:
        reopen(uow)
        if is_spent(uow.study):
            raise InvalidInput([change.too_small(study.created)])
    uow.emit(EventKind.STUDY_EXTENDED, state=uow.study.state, budget=budget.model_dump(mode="json"))
    complete_if_spent(uow)


def _rerank(uow: StudyUnitOfWork, metric: str) -> None:
    study, metrics = uow.study, spec_of(uow.study.spec.task).metrics
    if metric not in metrics:
        message = f"the task has no such metric; choose one of {', '.join(metrics)}"
        if not metrics:
            message = "which direction of a script's metric is better is not known but for the objective; create a study with another one"
        raise InvalidInput([Fault(("metric",), "unknown_metric", message)])
    if not study.state.terminal:
        raise StudyClosed(
            f"The study is {study.state}, and its search still follows {study.spec.objective.metric}. Wait for its end, or stop it."
        )
    if study.confirmation is not None:
        raise StudyClosed(
            f"The confirmation of this study compared its best configurations by {study.spec.objective.metric}, and would not hold for "
            "another metric. Create a study with the other objective."
        )
    was = study.spec.objective
    if metric == was.metric:
        return
    if study.facts is not None and (fault := unrecorded(study.spec, study.facts, metric)) is not None:
        raise InvalidInput([fault])
    judged = uow.judged_trials()
    complete = [one for one in judged if one.state is TrialState.COMPLETE]
    if without := [one.number for one in complete if finite(one.metrics.get(metric)) is None]:
        some = f"trial {without[0]}" if len(without) == 1 else f"{len(without)} trials, the first of them {without[0]},"
        raise InvalidInput([Fault(("metric",), "not_recorded", f"{some} ended without a finite {metric}; choose another metric")])
    objective = Objective(metric=metric, direction=metrics[metric].direction)
    uow.study = replace(study, spec=study.spec.model_copy(update={"objective": objective}))
    seq = uow.emit(
        EventKind.STUDY_RERANKED,
        state=study.state,
        objective=objective.model_dump(mode="json"),
        best=_best_by(complete, objective),
        was={**was.model_dump(mode="json"), "best": _best_by(complete, was)},
    )
    for one in judged:
        uow.value(one, one.metrics.get(metric), seq)


def _best_by(complete: Sequence[HeldTrial], objective: Objective) -> int | None:
    """The number of the best of the complete trials of the search, the first one of equal values."""
    sign = -1 if objective.direction == "maximize" else 1
    values = {
        one.number: value for one in complete if one.round is None and (value := finite(one.metrics.get(objective.metric))) is not None
    }
    return min(values, key=lambda number: (sign * values[number], number), default=None)


def _tried_all(study: Study) -> str:
    size = study.spec.search_space.distinct
    every = "Every configuration" if size is None else f"Each of the {size} configurations" if size > 1 else "The one configuration"
    return f"{every} of the search space was tried"


def _stop(uow: StudyUnitOfWork) -> None:
    if uow.study.state is not StudyState.STOPPED:
        _refuse_closed(uow.study)
        close(uow, StudyState.STOPPED, EventKind.STUDY_STOPPED, None)


def fail_study(store: Store, study: str, reason: str) -> Study:
    """End a study as failed. Its open trials return to the queue, because it can be resumed.

    Nothing changes when it has ended already. Raises StudyNotFound.
    """
    with store.writing() as tx, locked(tx, study) as uow:
        if not uow.study.state.terminal:
            close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, storable(reason))
    return uow.study


def delete_study(store: Store, study: str, idempotency: Idempotency | None = None) -> None:
    """Delete the study with all its trials and events. Raises StudyNotFound, IdempotencyConflict, Replay.

    A large study is hidden at once; a server's sweeper removes its rows in many short transactions.
    """
    with store.writing() as tx:
        keys.take(tx, idempotency)
        registry.delete_study(tx, study)
        keys.keep(tx, idempotency, None)


def pass_check(store: Store, study: str, facts: DatasetInfo, manifest: str | None = None) -> Study:
    """Store the result of a successful check of data and weights, after which trials may start. Raises StudyNotFound.

    Only the first check after the creation, or after a failed study was resumed, has an effect. The study fails when its trials
    were trained on other data or weights, when its document does not fit the facts, or when it has `confirm` and the data has no test
    examples.
    """
    with store.writing() as tx, locked(tx, study) as uow:
        before = uow.study.facts
        if uow.study.sound or uow.study.state.terminal:
            return uow.study
        if before is not None and (changed := before.differences_from(facts)) and uow.has_progress():
            reason = (
                f"{' and '.join(changed)} are not those that the study's trials were trained on. Restore them and resume the study, "
                "or create the study again with replace: true"
            )
            close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, reason)
        else:
            uow.study = replace(uow.study, facts=facts, checked=True, recheck=False)
            if manifest is not None or facts != before:
                registry.keep_manifest(tx, uow.study.id, manifest)
            uow.emit(EventKind.STUDY_CHECKED, state=uow.study.state, **facts.checked)
            spec = with_all_stages(uow.study.spec, facts)
            uow.study = replace(uow.study, spec=spec)
            if faults := [f"{fault.pointer}: {fault.message}" for fault in facts_faults(spec, facts)]:
                close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, f"{'. '.join(faults)}. {CORRECT}")
            elif spec.needs_test_part and not facts.sizes.get("test"):
                close(uow, StudyState.FAILED, EventKind.STUDY_FAILED, NO_TEST_EXAMPLES.format(examples=f"{spec_of(spec.task).example}s"))
    return uow.study


def _refuse_closed(study: Study) -> None:
    if study.state.terminal:
        raise StudyClosed(f"The study is {study.state}, so this does not apply to it.")
