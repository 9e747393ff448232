"""What follows a search: its best and the baseline are trained again with fresh seeds, round by round, and the study is complete."""

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
    """Whatever comes next for a study whose trials have all ended and that adds none: a round of its confirmation, or its end.

    Whoever looks for work calls it: the hours may have run out while nothing was running, and no trial's end tells of that.
    Raises StudyNotFound, StudyUnreadable, StoreUnavailable.
    """
    with store.writing() as tx, locked(tx, study.id) as ledger:
        complete_if_spent(ledger)
        if has_nothing_left(ledger):
            _begin(ledger) if ledger.study.confirmation is None else _go_on(ledger)


def _begin(ledger: StudyUnitOfWork) -> None:
    """Choose whom to compare, and queue the first rounds, all at once: a race decides nothing on fewer."""
    confirm = ledger.study.spec.confirm
    best = ledger.best(confirm.top) if confirm is not None else []
    if confirm is None or not best:
        complete(ledger)
        return
    baseline = ledger.baseline() or best[0]
    arms = best if any(one.number == baseline.number for one in best) else [*best, baseline]
    ledger.study = replace(ledger.study, confirmation=Confirmation(arms=tuple(one.number for one in arms), baseline=baseline.number))
    ledger.tell(EventKind.STUDY_CONFIRMING, state=ledger.study.state, arms=[one.number for one in arms], baseline=baseline.number)
    for round in range(1, min(FIRST_ROUNDS, confirm.seeds) + 1):
        _queue(ledger, arms, round)


def _go_on(ledger: StudyUnitOfWork) -> None:
    """Queue the next round for those that the race has left in it, or complete the study when all seeds have had theirs."""
    study = ledger.study
    if study.spec.confirm is None or study.confirmation is None:
        raise ValueError(f"study {study.id} confirms nothing")
    searched = {one.number: one for one in ledger.numbers(study.confirmation.arms)}
    examples = study.facts.sizes.get("test", 0) if study.facts is not None else 0
    arms = arms_of(study.spec, study.confirmation, searched.values(), ledger.repeats(), examples)
    if (coming := next_round(arms, study.spec.objective.direction, study.spec.confirm.seeds)) is None:
        complete(ledger)
    else:
        _queue(ledger, [searched[number] for number in coming.arms], coming.round)


def _queue(ledger: StudyUnitOfWork, arms: Iterable[HeldTrial], round: int) -> None:
    for one in arms:
        new = ledger.new_repeat(one, round)
        told = {"params": dict(new.params), "source": new.source, "confirms": new.confirms, "round": new.round}
        ledger.add([Step(new, EventKind.TRIAL_QUEUED, told)])
