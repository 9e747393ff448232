"""How a worker comes by trials, each for itself: a waiting one first, then a new suggestion while the budget lasts."""

import logging
from collections.abc import Callable
from functools import partial

from service.domain.errors import StudyNotFound, StudyUnreadable
from service.domain.records import Claim, Study
from service.domain.states import TrialState
from service.operations.confirming import carry_on
from service.operations.endings import complete_if_spent, is_spent
from service.operations.searches import Memory, Searches, SearchFailed
from service.operations.starting import claim_of, insert, room, start
from service.operations.studies import fail_study
from service.store import Store, queries
from service.store.ledger import locked
from service.store.queries import Candidate
from service.store.rows import HeldTrial

MOST_DUPLICATES = 100  # answered in one call
MOST_THOUGHTS = 6  # of one call, while others are quicker each time

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
        claims += claims_or_end(store, candidate.study, partial(_claim_from, store, searches, candidate, worker, limit - len(claims)))
    return claims


def claims_or_end(store: Store, study: Study, take: Callable[[], list[Claim]]) -> list[Claim]:
    """What `take` claims of the study; none when the study is gone, or ends because its sampler broke down."""
    try:
        try:
            return take()
        except SearchFailed as error:
            log.exception("study %s ends", study.id)
            fail_study(store, study.id, str(error))
    except (StudyNotFound, StudyUnreadable) as error:
        log.info("study %s gave no trial: %s", study.id, error)
    return []


def _claim_from(store: Store, searches: Searches, candidate: Candidate, worker: str, limit: int) -> list[Claim]:
    study, claims = candidate.study, list[Claim]()
    if candidate.claimable:
        claims += _claim_waiting(store, study, worker, limit)
    if len(claims) < limit and may_add(store, candidate):
        claims += _claim_new(store, searches, study, worker, limit - len(claims))
    return claims


def may_add(store: Store, candidate: Candidate) -> bool:
    """Whether the study can take a new trial, as far as the candidate shows; one that has nothing left to do is carried on."""
    study = candidate.study
    if candidate.exhausted or is_spent(study):
        if not candidate.running and not candidate.claimable:
            carry_on(store, study)
        return False
    parallel = study.spec.budget.parallel
    return parallel is None or candidate.running < parallel


def _claim_waiting(store: Store, study: Study, worker: str, limit: int) -> list[Claim]:
    with store.writing() as tx, locked(tx, study.id) as ledger:
        complete_if_spent(ledger)
        waiting = [trial for trial in ledger.claimable(room(ledger, limit)) if trial.state is TrialState.QUEUED]
        started = [start(ledger, trial, worker) for trial in waiting]
    return [claim_of(study, trial) for trial in started]


def _claim_new(store: Store, searches: Searches, study: Study, worker: str, limit: int) -> list[Claim]:
    """New trials. Suggestions that duplicate an earlier trial are added too, but need no worker."""
    claims: list[Claim] = []
    duplicates = 0
    with searches.turn(study) as memory:
        while len(claims) < limit and duplicates < MOST_DUPLICATES:
            if not (added := _add(store, memory, study, worker, limit - len(claims))):
                break
            running = [claim_of(study, trial) for trial in added if trial.state is TrialState.RUNNING]
            claims += running
            duplicates += len(added) - len(running)
    return claims


def _add(store: Store, memory: Memory, study: Study, worker: str, limit: int) -> list[HeldTrial]:
    """Think while no lock is held; then look under the lock whether the thought still holds, and insert.

    A trial only ever gets the suggestion for its own number: others would be drawn again for the number that they are for.
    Empty when none may be added, or when others were quicker each time.
    """
    most = study.spec.budget.max_trials
    surplus = 0
    for _ in range(MOST_THOUGHTS):
        memory.refresh(store)
        if (wanted := min(limit, most - memory.created)) <= 0:
            return []
        suggestions = memory.suggest(wanted + surplus)
        with store.writing() as tx, locked(tx, study.id) as ledger:
            taken = ledger.study.created - memory.created
            if taken == 0 or (surplus and taken < len(suggestions)):
                ledger.exhausted = ledger.exhausted or not suggestions
                if not suggestions or is_spent(ledger.study):
                    complete_if_spent(ledger)
                    return []
                count = room(ledger, min(limit, most - ledger.study.created))
                return insert(ledger, suggestions[taken : taken + count], worker)
        surplus = next_surplus(surplus, taken)
    return []


def next_surplus(surplus: int, taken: int) -> int:
    """Suggestions to think of beyond those wanted, when others took so many numbers during the last thought and may do so again."""
    return 2 * max(surplus, taken)
