"""Claims: starts waiting trials and adds suggested ones, one or several that share a pass."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from search_spaces import Params
from service.domain.batched_runs import SharedKey, lane_budget, learns, may_share, shared_key
from service.domain.errors import StudyNotFound, StudyUnreadable
from service.domain.records import Claim, Lease, Study, depths_in
from service.domain.spec import Budget, StudySpec
from service.domain.states import EventKind, StudyState, TrialState
from service.operations.completion import (
    OF_ONE_ATTEMPT,
    complete_if_spent,
    completion_event,
    copy_result,
    duplicates_answered_by,
    is_spent,
    without,
)
from service.operations.confirming import carry_on
from service.operations.studies import fail_study
from service.search.study import Decision, StudySearch, Suggestion
from service.store import Store, queries
from service.store.codec import key_of
from service.store.queries import Candidate
from service.store.queries.workers import QueuedTrial, queued_trials
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, locked
from service.timing import steady

MOST_STUDIES = 64


class SearchFailed(Exception):
    """The sampler or pruner broke down; its text says how. No retry helps, for it is a function of the history."""


@dataclass(slots=True)
class Memory:
    """One study's search, and how many trials the study had when it was last brought up to date."""

    study_id: str
    search: StudySearch
    budget: Budget  # that the search was made for
    created: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self, store: Store) -> None:
        """Take in what changed since the last time. Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable."""
        history = store.read(queries.changed_since, self.study_id, self.search.seq)
        with _failing_as("learn of its trials"):
            self.search.absorb(history.seq, history.trials, history.values)
        self.created = history.created

    def suggest(self, count: int) -> list[Suggestion]:
        """Suggestions for the next numbers; fewer when the space is exhausted. Raises SearchFailed."""
        with _failing_as(f"suggest trial {self.created}"):
            return self.search.suggest(self.created, count)

    def complete(self, number: int, given: Params) -> Suggestion:
        """The given parameters of a waiting trial with the sampler's for the others. Raises SearchFailed."""
        with _failing_as(f"complete trial {number}"):
            return self.search.complete(number, given)

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> Mapping[int, Decision]:
        """The pruner's word by the trial's number. Raises SearchFailed."""
        with _failing_as("judge its trials"):
            return self.search.decide_all(curves)


@contextmanager
def _failing_as(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise SearchFailed(f"the search could not {doing}: {type(error).__name__}: {error}") from error


class Searches:
    """The studies' search memories, each brought up to date from the rows before it is asked. Threads take turns at a study."""

    def __init__(self, make: Callable[[StudySpec], StudySearch] = StudySearch) -> None:
        self._make = make
        self._memories: OrderedDict[str, Memory] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, study: Study) -> Iterator[Memory]:
        """The study's memory for this thread alone, not brought up to date. Raises SearchFailed."""
        memory = self._memory(study)
        with memory.turn:
            yield memory

    @contextmanager
    def for_study(self, store: Store, study: Study) -> Iterator[Memory]:
        """The study's memory, up to date, for this thread alone. Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable."""
        with self.turn(study) as memory:
            memory.refresh(store)
            yield memory

    def _memory(self, study: Study) -> Memory:
        with self._lock:
            known = self._memories.get(study.id)
            if known is None or known.budget != study.spec.budget:
                with _failing_as("be made"):
                    self._memories[study.id] = Memory(study.id, self._make(study.spec), study.spec.budget)
            self._memories.move_to_end(study.id)
            if len(self._memories) > MOST_STUDIES:
                self._memories.popitem(last=False)
            return self._memories[study.id]


def available_slots(uow: StudyUnitOfWork, limit: int) -> int:
    """How many of `limit` trials may start now."""
    study = uow.study
    if study.state is not StudyState.ACTIVE or not study.sound:
        return 0
    parallel = study.spec.budget.parallel
    return limit if parallel is None else max(0, min(limit, parallel - uow.running()))


def start(uow: StudyUnitOfWork, trial: HeldTrial, worker: str) -> HeldTrial:
    """The next attempt. It goes on from the newest checkpoint: what was reported after that is superseded."""
    resumed = trial.checkpoints[0].step if trial.checkpoints else 0
    if trial.step > resumed:
        uow.metrics.forget_above(trial, resumed)
        trial = replace(trial, step=resumed, metrics=uow.metrics.at(trial, resumed))
    superseded = ("pace",) if trial.checkpoints else OF_ONE_ATTEMPT  # what goes on from a checkpoint goes on in the same way
    return uow.save(_starting(_running(uow, replace(trial, result=without(trial.result, superseded)), worker)))


def start_completed(uow: StudyUnitOfWork, trial: HeldTrial, suggestion: Suggestion, worker: str) -> HeldTrial:
    """Start a trial that was queued with some of its parameters.

    A duplicate of an ended trial ends with a copy of its result; a duplicate of an open trial waits for it.
    """
    whole = replace(trial, params=dict(suggestion.params), memory={**trial.memory, **suggestion.memory})
    original = originals_of(uow, [whole.params]).get(key_of(whole.params))
    if original is None:
        return start(uow, whole, worker)
    if not original.state.terminal:
        return uow.save(_waiting(replace(whole, duplicate_of=original.number), duplicate_of=original.number))
    ended = uow.save(completion_event(copy_result(whole, original, uow.now)))
    uow.metrics.copy_to(ended)
    complete_if_spent(uow)
    return ended


def completions(store: Store, searches: Searches, study: Study, limit: int) -> dict[int, Suggestion]:
    """By number, whole parameters for those of the first waiting trials that lack some, thought of while no lock is held.

    Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable.
    """
    first = store.read(queued_trials, study.id, limit)
    lacking = [one for one in first if one.attempt == 0 and study.spec.search_space.missing(one.params)]
    if not lacking:
        return {}
    with searches.for_study(store, study) as memory:
        return {one.number: memory.complete(one.number, one.params) for one in lacking}


def insert(
    uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], worker: str, start_at: Collection[int] | None = None
) -> list[HeldTrial]:
    """Add trials for suggestions that are for the study's next numbers.

    Those of parameters that were tried before are copy_result or wait for the answer. Of the others the ones at the places
    `start_at` run, all of them when it is None; the rest is queued for whoever claims next.
    """
    originals = originals_of(uow, (suggestion.params for suggestion in suggestions))
    steps = []
    for place, suggestion in enumerate(suggestions):
        new = uow.new_trial(dict(suggestion.params), source="sampler", memory=dict(suggestion.memory))
        starts = start_at is None or place in start_at
        step = _first_step(uow, new, originals.get(key_of(new.params)), worker if starts else None)
        originals.setdefault(key_of(new.params), step.trial)
        steps.append(step)
    added = uow.add(steps)
    for trial in added:
        if trial.state.terminal:
            uow.metrics.copy_to(trial)
    complete_if_spent(uow)
    return added


def originals_of(uow: StudyUnitOfWork, params: Iterable[Params]) -> dict[str, HeldTrial]:
    """By key, the first earlier trial with such parameters whose end duplicates_answered_by them; else the first whose end may do so."""
    found = uow.originals(params)
    useful = [one for one in found if duplicates_answered_by(one) or not one.state.terminal]
    worst_first = sorted(useful, key=lambda one: (duplicates_answered_by(one), -one.number))
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


def _first_step(uow: StudyUnitOfWork, new: HeldTrial, original: HeldTrial | None, worker: str | None) -> Step:
    if original is None:
        return _starting(_running(uow, new, worker)) if worker is not None else _waiting(new)
    if original.state.terminal:
        return completion_event(copy_result(new, original, uow.now))
    return _waiting(replace(new, duplicate_of=original.number, source="duplicate"), duplicate_of=original.number)


def _running(uow: StudyUnitOfWork, trial: HeldTrial, worker: str) -> HeldTrial:
    if uow.study.started_at is None:
        uow.study = replace(uow.study, started_at=steady())
    return replace(
        trial,
        state=TrialState.RUNNING,
        attempt=trial.attempt + 1,
        heartbeat=trial.heartbeat + 1,
        worker=worker,
        started_at=trial.started_at or uow.now,
    )


def _starting(trial: HeldTrial) -> Step:
    told = {"params": dict(trial.params), "worker": trial.worker, "source": trial.source, "step": trial.step}
    return Step(trial, EventKind.TRIAL_STARTED, told)


def _waiting(trial: HeldTrial, **told: Any) -> Step:
    return Step(trial, EventKind.TRIAL_QUEUED, {"params": dict(trial.params), "source": trial.source, **told})


MOST_DUPLICATES = 100  # after which one claim adds no more of them
MOST_THOUGHTS = 6  # of one claim, while others take the numbers each time
MOST_WAITING = 1_024  # of a study's queue, looked through for trials that may join
LOOK_AHEAD = 4  # suggestions for a lane, since not every one may join
COMPLETED_AT_ONCE = 4  # of the first waiting trials, those that lack parameters
EMPTY: Mapping[int, Suggestion] = MappingProxyType({})
MOST_AHEAD = 512  # suggestions in one transaction

log = logging.getLogger(__name__)


def claim_together(store: Store, searches: Searches, worker: str, lane_bytes: int, without: Collection[str] = ()) -> list[Claim]:
    """One trial to run, or as many of one study as may share a pass, with `lane_bytes` for what is trained. Raises StoreUnavailable.

    The study with the fewest running trials comes first. In a study a waiting trial comes before a new one, and among the waiting
    ones those that were started before come first. Only trials that were never started join the first one. New ones join when
    nothing else waits. A suggestion is for its number, so those in between that cannot join are queued: with a sampler that learns nothing
    no further than to the last that joins, with another all that were thought of at once, for taking some of them would favour
    what is trained together. Where the first suggestion trains alone, nothing is looked ahead. Nothing is claimed of the studies
    `without`, given by their keys.
    """
    for candidate in store.read(queries.candidates):
        if candidate.study.id in without:
            continue
        if claims := _claims_or_end(store, candidate.study, partial(_pass_from, store, searches, candidate, worker, lane_bytes)):
            return claims
    return []


def _claims_or_end(store: Store, study: Study, take: Callable[[], list[Claim]]) -> list[Claim]:
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


def _pass_from(store: Store, searches: Searches, candidate: Candidate, worker: str, lane_bytes: int) -> list[Claim]:
    study = candidate.study
    lanes = _lanes(study, lane_bytes)
    if candidate.claimable and not _leaves_lanes_empty(store, candidate, lanes):
        whole = completions(store, searches, study, COMPLETED_AT_ONCE)
        with store.writing() as tx, locked(tx, study.id) as uow:
            started, _ = _start_waiting(uow, worker, lanes, whole)
        if started:
            return [claim_of(study, trial) for trial in started]
    return _claim_with_new(store, searches, study, worker, lanes) if _may_add(store, candidate) else []


def _may_add(store: Store, candidate: Candidate) -> bool:
    """Whether the study can take a new trial, as far as the candidate shows; one that has nothing left to do is carried on."""
    study = candidate.study
    if candidate.exhausted or is_spent(study):
        if not candidate.running and not candidate.claimable:
            carry_on(store, study)
        return False
    parallel = study.spec.budget.parallel
    return parallel is None or candidate.running < parallel


def _lanes(study: Study, lane_bytes: int) -> int:
    if study.facts is None or not may_share(study.spec):
        return 1
    lanes = lane_budget(study.spec, study.facts, lane_bytes, study.created)
    return min(lanes, study.spec.budget.parallel or lanes)


def _leaves_lanes_empty(store: Store, candidate: Candidate, lanes: int) -> bool:
    """Whether all that waits may share one pass, and new trials may be added to it."""
    study = candidate.study
    if candidate.claimable >= lanes or candidate.exhausted or study.created >= study.spec.budget.max_trials:
        return False
    keys = {_key_of(study.spec, trial) for trial in store.read(queued_trials, study.id, lanes)}
    return len(keys) == 1 and None not in keys


def _key_of(spec: StudySpec, trial: QueuedTrial | HeldTrial) -> SharedKey | None:
    """Its shared key if it was never started and has all its parameters: the others train alone."""
    return None if trial.attempt or spec.search_space.missing(trial.params) else shared_key(spec, trial.params, trial.round)


def _start_waiting(
    uow: StudyUnitOfWork, worker: str, lanes: int, whole: Mapping[int, Suggestion] = EMPTY
) -> tuple[list[HeldTrial], SharedKey | None]:
    """The first of the queue, with all that may share its pass; and the key that they share.

    `whole` completes, by number, trials that lack parameters; those that it does not name are passed over.
    """
    complete_if_spent(uow)
    most = available_slots(uow, lanes)
    found = uow.claimable(MOST_WAITING if most > 1 else most)
    queue = [trial for trial in found if trial.state is TrialState.QUEUED]  # the hours may just have ended the others
    spec = uow.study.spec
    while queue and spec.search_space.missing(queue[0].params):
        first = queue.pop(0)
        if first.number in whole and (one := start_completed(uow, first, whole[first.number], worker)).state is TrialState.RUNNING:
            return [one], None
    if not queue:
        return [], None
    key = _key_of(spec, queue[0])
    joining = queue[:1] if key is None else [trial for trial in queue if _key_of(spec, trial) == key]
    return [start(uow, trial, worker) for trial in joining[:most]], key


def _claim_with_new(store: Store, searches: Searches, study: Study, worker: str, lanes: int) -> list[Claim]:
    """QueuedTrial trials, if there are some, with new ones. Duplicates that need no worker are added until one is found that does."""
    duplicates = 0
    with searches.turn(study) as memory:
        while duplicates < MOST_DUPLICATES and (touched := _add(store, memory, study, worker, lanes)):
            if running := [claim_of(study, trial) for trial in touched if trial.state is TrialState.RUNNING]:
                return running
            duplicates += len(touched)
    return []


def _add(store: Store, memory: Memory, study: Study, worker: str, lanes: int) -> list[HeldTrial]:
    """Ask the sampler while no lock is held; then, under the lock, start what waits and add the suggestions that still hold.

    A trial only ever gets the suggestion for its own number: suggestions whose numbers were taken meanwhile are dropped, and the
    sampler is asked again. Empty when none may be added, or when others took the numbers each time.
    """
    surplus = 0
    for _ in range(MOST_THOUGHTS):
        memory.refresh(store)
        left = study.spec.budget.max_trials - memory.created
        suggestions = _think(memory, study.spec, min(lanes, left), left, surplus) if left > 0 else []
        with store.writing() as tx, locked(tx, study.id) as uow:
            started, key = _start_waiting(uow, worker, lanes)
            if left <= 0 or (started and key is None):
                return started
            taken = uow.study.created - memory.created
            if taken == 0 or (surplus and taken < len(suggestions)):
                uow.exhausted = uow.exhausted or not suggestions
                return started + _insert(uow, suggestions[taken:], worker, lanes - len(started), key)
            if started:
                return started
        surplus = 2 * max(surplus, taken)  # suggestions beyond those wanted: others may take as many numbers again
    return []


def _think(memory: Memory, spec: StudySpec, lanes: int, left: int, surplus: int) -> list[Suggestion]:
    """Suggestions for the next numbers: more than one only if that may fill a pass."""
    if lanes == 1 or learns(spec.sampler):
        return memory.suggest(lanes + surplus)
    for ahead in (1, lanes, min(LOOK_AHEAD * lanes, left, MOST_AHEAD)):
        suggestions = memory.suggest(ahead + surplus)
        keys = {shared_key(spec, one.params) for one in suggestions}
        if keys == {None} or (ahead == lanes and len(keys) == 1):
            break
    return suggestions


def _insert(uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], worker: str, lanes: int, key: SharedKey | None) -> list[HeldTrial]:
    """Add new trials, of which at most so many run: those with the key, or with that of the first one that needs a worker."""
    most = available_slots(uow, lanes)
    if not suggestions or most <= 0 or is_spent(uow.study):
        complete_if_spent(uow)
        return []
    spec = uow.study.spec
    ahead = suggestions[: spec.budget.max_trials - uow.study.created]
    joining, count = _joining(uow, ahead[:lanes] if learns(spec.sampler) else ahead, key, most)
    return insert(uow, ahead[:count], worker, frozenset(joining))


def _joining(uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], key: SharedKey | None, most: int) -> tuple[list[int], int]:
    """The places of the suggestions that run together, and how many suggestions become trials. See `claim_together`."""
    spec = uow.study.spec
    fresh = _fresh(uow, suggestions)
    if not fresh:
        return [], len(suggestions)
    key = key or shared_key(spec, suggestions[fresh[0]].params)
    if key is None:
        return fresh[:1], fresh[0] + 1
    joining = [place for place in fresh if shared_key(spec, suggestions[place].params) == key][:most]
    if learns(spec.sampler):
        return joining, len(suggestions)
    return joining, joining[-1] + 1 if joining else 0


def _fresh(uow: StudyUnitOfWork, suggestions: Sequence[Suggestion]) -> list[int]:
    """The places of suggestions that no earlier trial and no earlier suggestion duplicates_answered_by."""
    known = set(originals_of(uow, (suggestion.params for suggestion in suggestions)))
    fresh = []
    for place, suggestion in enumerate(suggestions):
        if (params_key := key_of(suggestion.params)) not in known:
            known.add(params_key)
            fresh.append(place)
    return fresh
