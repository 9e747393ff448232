"""How a worker comes by a trial: a waiting one first, then a new suggestion while the budget lasts."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from service.domain.errors import LeaseLost, StudyNotFound, StudyUnreadable, TrialNotFound
from service.domain.events import EventKind
from service.domain.records import Claim, Lease, Study
from service.domain.states import StudyState, TrialState
from service.operations.endings import answered, answers, complete_if_spent, ending, is_spent
from service.operations.searches import Memory, Searches, SearchFailed
from service.operations.studies import fail_study
from service.search.study import Decision, Suggestion
from service.store import Store, Transaction, queries
from service.store.codec import key_of
from service.store.ledger import Ledger, Step, locked
from service.store.queries import Candidate
from service.store.rows import HeldTrial

MOST_DUPLICATES = 100  # answered in one call
SURPLUSES = (0, 0, 0, 8, 16, 32)  # a thought for each: suggestions beyond those wanted, for the numbers that others may take meanwhile

log = logging.getLogger(__name__)


def unchecked_study(store: Store) -> Study | None:
    """A study whose data and weights nobody has looked at yet. Raises StoreUnavailable."""
    return store.read(queries.unchecked_study)


def claim(store: Store, searches: Searches, worker: str, limit: int = 1) -> list[Claim]:
    """At most so many trials to run, each with a new lease. Raises StoreUnavailable."""
    claims: list[Claim] = []
    for candidate in store.read(queries.candidates):
        if len(claims) >= limit:
            break
        try:
            claims += _claim_or_fail(store, searches, candidate, worker, limit - len(claims))
        except (StudyNotFound, StudyUnreadable) as error:
            log.info("study %s gave no trial: %s", candidate.study.id, error)
    return claims


def decide(store: Store, searches: Searches, lease: Lease, values: Mapping[int, float]) -> Decision:
    """Whether a running trial goes on, given its objective by step. Writes nothing. Raises LeaseLost, StoreUnavailable."""
    try:
        with searches.for_study(store, store.read(_leased_study, lease)) as search:
            return search.decide(lease.number, values)
    except (StudyNotFound, StudyUnreadable, TrialNotFound):
        raise LeaseLost(lease.number, lease.attempt) from None


def _leased_study(tx: Transaction, lease: Lease) -> Study:
    trial, study = queries.find_trial(tx, lease.study, lease.number), queries.find_study(tx, lease.study)
    if (trial.state, trial.attempt) != (TrialState.RUNNING, lease.attempt):
        raise LeaseLost(lease.number, lease.attempt)
    return study


def _claim_or_fail(store: Store, searches: Searches, candidate: Candidate, worker: str, limit: int) -> list[Claim]:
    try:
        return _claim_from(store, searches, candidate, worker, limit)
    except SearchFailed as error:
        log.exception("study %s ends", candidate.study.id)
        fail_study(store, candidate.study.id, str(error))
        return []


def _claim_from(store: Store, searches: Searches, candidate: Candidate, worker: str, limit: int) -> list[Claim]:
    study, claims = candidate.study, list[Claim]()
    if candidate.claimable:
        claims += _claim_waiting(store, study, worker, limit)
    if len(claims) == limit:
        return claims
    if candidate.exhausted or is_spent(study, time.time()):
        if not candidate.running and not candidate.claimable:
            _complete(store, study)
    elif (parallel := study.spec.budget.parallel) is None or candidate.running < parallel:
        claims += _claim_new(store, searches, study, worker, limit - len(claims))
    return claims


def _complete(store: Store, study: Study) -> None:
    """The hours ran out while nothing was running, so no trial's end tells of it."""
    with store.writing() as tx, locked(tx, study.id) as ledger:
        complete_if_spent(ledger)


def _claim_waiting(store: Store, study: Study, worker: str, limit: int) -> list[Claim]:
    with store.writing() as tx, locked(tx, study.id) as ledger:
        started = [_start(ledger, trial, worker) for trial in ledger.claimable(_room(ledger, limit))]
    return [_claim_of(study, trial) for trial in started]


def _room(ledger: Ledger, limit: int) -> int:
    """How many of `limit` trials may start now."""
    study = ledger.study
    if study.state is not StudyState.ACTIVE or study.facts is None:
        return 0
    parallel = study.spec.budget.parallel
    return limit if parallel is None else max(0, min(limit, parallel - ledger.running()))


def _start(ledger: Ledger, trial: HeldTrial, worker: str) -> HeldTrial:
    """The next attempt. It goes on from the newest checkpoint: what was reported after that is superseded."""
    resumed = trial.checkpoints[0].step if trial.checkpoints else 0
    if trial.step > resumed:
        ledger.forget_steps_above(trial, resumed)
        trial = replace(trial, step=resumed, metrics=ledger.metrics_at(trial, resumed))
    return ledger.put(_starting(_running(ledger, trial, worker)))


def _running(ledger: Ledger, trial: HeldTrial, worker: str) -> HeldTrial:
    if ledger.study.started_at is None:
        ledger.study = replace(ledger.study, started_at=ledger.now)
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


def _claim_new(store: Store, searches: Searches, study: Study, worker: str, limit: int) -> list[Claim]:
    """New trials. Suggestions that duplicate an earlier trial are added too, but need no worker."""
    claims: list[Claim] = []
    duplicates = 0
    with searches.turn(study) as memory:
        while len(claims) < limit and duplicates < MOST_DUPLICATES:
            if not (added := _add(store, memory, study, worker, limit - len(claims))):
                break
            running = [_claim_of(study, trial) for trial in added if trial.state is TrialState.RUNNING]
            claims += running
            duplicates += len(added) - len(running)
    return claims


def _add(store: Store, memory: Memory, study: Study, worker: str, limit: int) -> list[HeldTrial]:
    """Think while no lock is held; then look under the lock whether the thought still holds, and insert.

    A trial only ever gets the suggestion for its own number: others would be drawn again for the number that they are for.
    Empty when none may be added, or when others were quicker each time.
    """
    most = study.spec.budget.max_trials
    for surplus in SURPLUSES:
        memory.refresh(store)
        if (wanted := min(limit, most - memory.created)) <= 0:
            return []
        suggestions = memory.suggest(wanted + surplus)
        with store.writing() as tx, locked(tx, study.id) as ledger:
            taken = ledger.study.created - memory.created
            if taken == 0 or (surplus and taken < len(suggestions)):
                room = _room(ledger, min(limit, most - ledger.study.created))
                return _insert(ledger, suggestions[taken : taken + room], worker, exhausted=not suggestions)
    return []


def _insert(ledger: Ledger, suggestions: Sequence[Suggestion], worker: str, exhausted: bool) -> list[HeldTrial]:
    ledger.exhausted = ledger.exhausted or exhausted
    if is_spent(ledger.study, ledger.now) or not suggestions:
        complete_if_spent(ledger)
        return []
    originals = _originals(ledger, suggestions)
    steps = []
    for suggestion in suggestions:
        new = ledger.new_trial(dict(suggestion.params), source="sampler", memory=dict(suggestion.memory))
        step = _first_step(ledger, new, originals.get(key_of(new.params)), worker)
        originals.setdefault(key_of(new.params), step.trial)
        steps.append(step)
    added = ledger.add(steps)
    for trial in added:
        if trial.state.terminal:
            ledger.copy_metrics(trial)
    complete_if_spent(ledger)
    return added


def _originals(ledger: Ledger, suggestions: Sequence[Suggestion]) -> dict[str, HeldTrial]:
    """By key, the first earlier trial with the suggested parameters whose end answers them; else the first whose end may do so."""
    found = ledger.originals(suggestion.params for suggestion in suggestions)
    useful = [one for one in found if answers(one) or not one.state.terminal]
    worst_first = sorted(useful, key=lambda one: (answers(one), -one.number))
    return {key_of(one.params): one for one in worst_first}


def _first_step(ledger: Ledger, new: HeldTrial, original: HeldTrial | None, worker: str) -> Step:
    if original is None:
        return _starting(_running(ledger, new, worker))
    if original.state.terminal:
        return ending(answered(new, original, ledger.now))
    waiting = replace(new, duplicate_of=original.number, source="duplicate")
    return Step(waiting, EventKind.TRIAL_QUEUED, {"params": dict(new.params), "source": waiting.source, "duplicate_of": original.number})


def _claim_of(study: Study, trial: HeldTrial) -> Claim:
    lease = Lease(study=trial.study, trial=trial.id, number=trial.number, attempt=trial.attempt, worker=trial.worker or "")
    return Claim(lease=lease, spec=study.spec, facts=study.facts, params=trial.params, checkpoints=trial.checkpoints)
