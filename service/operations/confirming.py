"""The confirmation after a search: trains the best trials and the baseline again with new seeds, round by round."""

from collections.abc import Iterable
from dataclasses import replace

from service.confirmation.race import FIRST_ROUNDS, arms_of, next_round
from service.domain.records import Confirmation, Study
from service.domain.states import EventKind
from service.operations.completion import complete, complete_if_spent, has_nothing_left
from service.store import Store
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, locked


def carry_on(store: Store, study: Study) -> None:
    """Queue the next confirmation round of a study without open trials, or complete the study.

    Workers call it when they look for work: a budget's hours can pass while no trial runs, so no trial's end triggers it.
    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study.id) as uow:
        complete_if_spent(uow)
        if has_nothing_left(uow):
            _begin(uow) if uow.study.confirmation is None else _go_on(uow)


def _begin(uow: StudyUnitOfWork) -> None:
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
        _queue(uow, arms, round)


def _go_on(uow: StudyUnitOfWork) -> None:
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
        _queue(uow, [searched[number] for number in coming.arms], coming.round)


def _queue(uow: StudyUnitOfWork, arms: Iterable[HeldTrial], round: int) -> None:
    for one in arms:
        new = uow.new_repeat(one, round)
        body = {"params": dict(new.params), "source": new.source, "confirms": new.confirms, "round": new.round}
        uow.add([Step(new, EventKind.TRIAL_QUEUED, body)])
