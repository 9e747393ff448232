"""How a trial begins, under its study's lock: a waiting one its next attempt, a suggested one its first step."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from search_spaces import Params
from service.clock import steady
from service.domain.events import EventKind
from service.domain.records import Claim, Lease, Study, depths_in
from service.domain.states import StudyState, TrialState
from service.operations.endings import OF_ONE_ATTEMPT, answered, answers, complete_if_spent, ending, without
from service.operations.searches import Searches
from service.search.study import Suggestion
from service.store import Store
from service.store.codec import key_of
from service.store.queries.workers import waiting
from service.store.rows import HeldTrial
from service.store.unit_of_work import Ledger, Step


def room(ledger: Ledger, limit: int) -> int:
    """How many of `limit` trials may start now."""
    study = ledger.study
    if study.state is not StudyState.ACTIVE or not study.sound:
        return 0
    parallel = study.spec.budget.parallel
    return limit if parallel is None else max(0, min(limit, parallel - ledger.running()))


def start(ledger: Ledger, trial: HeldTrial, worker: str) -> HeldTrial:
    """The next attempt. It goes on from the newest checkpoint: what was reported after that is superseded."""
    resumed = trial.checkpoints[0].step if trial.checkpoints else 0
    if trial.step > resumed:
        ledger.metrics.forget_above(trial, resumed)
        trial = replace(trial, step=resumed, metrics=ledger.metrics.at(trial, resumed))
    superseded = ("pace",) if trial.checkpoints else OF_ONE_ATTEMPT  # what goes on from a checkpoint goes on in the same way
    return ledger.put(_starting(_running(ledger, replace(trial, result=without(trial.result, superseded)), worker)))


def start_completed(ledger: Ledger, trial: HeldTrial, suggestion: Suggestion, worker: str) -> HeldTrial:
    """Start a trial that was queued with some of its parameters. One whose parameters were tried before is answered, or waits for that."""
    whole = replace(trial, params=dict(suggestion.params), memory={**trial.memory, **suggestion.memory})
    original = originals_of(ledger, [whole.params]).get(key_of(whole.params))
    if original is None:
        return start(ledger, whole, worker)
    if not original.state.terminal:
        return ledger.put(_waiting(replace(whole, duplicate_of=original.number), duplicate_of=original.number))
    ended = ledger.put(ending(answered(whole, original, ledger.now)))
    ledger.metrics.copy_to(ended)
    complete_if_spent(ledger)
    return ended


def completions(store: Store, searches: Searches, study: Study, limit: int) -> dict[int, Suggestion]:
    """By number, whole parameters for those of the first waiting trials that lack some, thought of while no lock is held.

    Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable.
    """
    first = store.read(waiting, study.id, limit)
    lacking = [one for one in first if one.attempt == 0 and study.spec.search_space.missing(one.params)]
    if not lacking:
        return {}
    with searches.for_study(store, study) as memory:
        return {one.number: memory.complete(one.number, one.params) for one in lacking}


def insert(ledger: Ledger, suggestions: Sequence[Suggestion], worker: str, start_at: Collection[int] | None = None) -> list[HeldTrial]:
    """Add trials for suggestions that are for the study's next numbers.

    Those of parameters that were tried before are answered or wait for the answer. Of the others the ones at the places
    `start_at` run, all of them when it is None; the rest is queued for whoever claims next.
    """
    originals = originals_of(ledger, (suggestion.params for suggestion in suggestions))
    steps = []
    for place, suggestion in enumerate(suggestions):
        new = ledger.new_trial(dict(suggestion.params), source="sampler", memory=dict(suggestion.memory))
        starts = start_at is None or place in start_at
        step = _first_step(ledger, new, originals.get(key_of(new.params)), worker if starts else None)
        originals.setdefault(key_of(new.params), step.trial)
        steps.append(step)
    added = ledger.add(steps)
    for trial in added:
        if trial.state.terminal:
            ledger.metrics.copy_to(trial)
    complete_if_spent(ledger)
    return added


def originals_of(ledger: Ledger, params: Iterable[Params]) -> dict[str, HeldTrial]:
    """By key, the first earlier trial with such parameters whose end answers them; else the first whose end may do so."""
    found = ledger.originals(params)
    useful = [one for one in found if answers(one) or not one.state.terminal]
    worst_first = sorted(useful, key=lambda one: (answers(one), -one.number))
    return {key_of(one.params): one for one in worst_first}


def claim_of(study: Study, trial: HeldTrial) -> Claim:
    """What a worker needs of a trial that was started for it."""
    lease = Lease(study=trial.study, trial=trial.id, number=trial.number, attempt=trial.attempt, worker=trial.worker or "")
    return Claim(
        lease=lease,
        spec=study.spec,
        facts=study.facts,
        params=trial.params,
        round=trial.round,
        checkpoints=trial.checkpoints,
        demand=study.spec.demand(trial.number) if trial.round is None else study.spec.demand_of_repeats(trial.params, trial.round),
        depths=depths_in(trial.result) if trial.checkpoints else None,
    )


def _first_step(ledger: Ledger, new: HeldTrial, original: HeldTrial | None, worker: str | None) -> Step:
    if original is None:
        return _starting(_running(ledger, new, worker)) if worker is not None else _waiting(new)
    if original.state.terminal:
        return ending(answered(new, original, ledger.now))
    return _waiting(replace(new, duplicate_of=original.number, source="duplicate"), duplicate_of=original.number)


def _running(ledger: Ledger, trial: HeldTrial, worker: str) -> HeldTrial:
    if ledger.study.started_at is None:
        ledger.study = replace(ledger.study, started_at=steady())
    return replace(
        trial,
        state=TrialState.RUNNING,
        attempt=trial.attempt + 1,
        heartbeat=trial.heartbeat + 1,
        worker=worker,
        started_at=trial.started_at or ledger.now,
    )


def _starting(trial: HeldTrial) -> Step:
    told = {"params": dict(trial.params), "worker": trial.worker, "source": trial.source, "step": trial.step}
    return Step(trial, EventKind.TRIAL_STARTED, told)


def _waiting(trial: HeldTrial, **told: Any) -> Step:
    return Step(trial, EventKind.TRIAL_QUEUED, {"params": dict(trial.params), "source": trial.source, **told})
