"""Claims: starts queued trials and adds suggested ones, one at a time or several whose heads are trained together."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from search_spaces import Params
from service.domain.batched_runs import SharedKey, lane_budget, learns, may_share, shared_key
from service.domain.errors import StudyNotFound, StudyUnreadable
from service.domain.records import Claim, Lease, Study, depths_in
from service.domain.spec import Budget, Objective, ProgramStudy, StudySpec, TrainingStudy
from service.domain.states import EventKind, StudyState, TrialState
from service.operations.completion import (
    ATTEMPT_RESULTS,
    carry_on,
    complete_if_spent,
    completion_event,
    copy_result,
    is_spent,
    result_holds_for_duplicates,
    without,
)
from service.operations.studies import fail_study
from service.search.study import Decision, StudySearch, Suggestion
from service.store import Store, queries
from service.store.codec import key_of
from service.store.queries import Candidate
from service.store.queries.workers import QueuedTrial, queued_trials
from service.store.rows import HeldTrial
from service.store.unit_of_work import Step, StudyUnitOfWork, locked
from service.timing import steady

MAX_STUDIES = 64


class SearchFailed(Exception):
    """The sampler or pruner raised an exception, which the message names.

    The search is a deterministic function of the history, so a retry fails in the same way.
    """


@dataclass(slots=True)
class CachedSearch:
    """One study's search, and the number of trials that the study had at the last refresh."""

    study_id: str
    search: StudySearch
    budget: Budget  # for which the search was created
    objective: Objective  # likewise
    created: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self, store: Store) -> None:
        """Read the changes since the last refresh. Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable."""
        history = store.read(queries.changed_since, self.study_id, self.search.seq)
        with _search_errors("read its trials"):
            self.search.absorb(history.seq, history.trials, history.values)
        self.created = history.created

    def suggest(self, count: int) -> list[Suggestion]:
        """Suggestions for the next `count` trial numbers, or fewer when the search space is exhausted. Raises SearchFailed."""
        with _search_errors(f"suggest trial {self.created}"):
            return self.search.suggest(self.created, count)

    def complete(self, number: int, given: Params) -> Suggestion:
        """Complete the given parameters of a queued trial with values from the sampler. Raises SearchFailed."""
        with _search_errors(f"complete trial {number}"):
            return self.search.complete(number, given)

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> Mapping[int, Decision]:
        """The pruning decisions by trial number. Raises SearchFailed."""
        with _search_errors("decide about pruning"):
            return self.search.decide_all(curves)


@contextmanager
def _search_errors(action: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise SearchFailed(f"the search could not {action}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class Claimant:
    """The caller of a claim: its id among the workers, and the memory of its accelerator in bytes, 0 without one."""

    worker: str
    device_bytes: int = 0
    needs_check: ClassVar[bool] = True  # a worker must have checked the study's data and weights before

    @contextmanager
    def locked(self, store: Store, study: str) -> Iterator[StudyUnitOfWork]:
        """Lock the study in a transaction of the claim."""
        with store.writing() as tx, locked(tx, study) as uow:
            yield uow

    def suited(self, queued: Iterable[HeldTrial]) -> list[HeldTrial]:
        """Those of the queued trials that the caller can train, as it starts them."""
        return list(queued)


class Searches:
    """LRU cache of the studies' searches. A lock for each study serialises the threads that use its search."""

    def __init__(self, make: Callable[[StudySpec], StudySearch] = StudySearch) -> None:
        self._make = make
        self._cached: OrderedDict[str, CachedSearch] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self, study: Study) -> Iterator[CachedSearch]:
        """Lock the study's search for the calling thread, without a refresh. Raises SearchFailed."""
        search = self._cached_search(study)
        with search.lock:
            yield search

    @contextmanager
    def for_study(self, store: Store, study: Study) -> Iterator[CachedSearch]:
        """Lock and refresh the study's search. Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable."""
        with self.turn(study) as cached:
            cached.refresh(store)
            yield cached

    def _cached_search(self, study: Study) -> CachedSearch:
        with self._lock:
            known = self._cached.get(study.id)
            if known is None or (known.budget, known.objective) != (study.spec.budget, study.spec.objective):
                with _search_errors("be created"):
                    self._cached[study.id] = CachedSearch(study.id, self._make(study.spec), study.spec.budget, study.spec.objective)
            self._cached.move_to_end(study.id)
            if len(self._cached) > MAX_STUDIES:
                self._cached.popitem(last=False)
            return self._cached[study.id]


def available_slots(uow: StudyUnitOfWork, claimant: Claimant, limit: int) -> int:
    """The number of trials that may start now, at most `limit`."""
    study = uow.study
    if study.state is not StudyState.ACTIVE or not (study.sound or not claimant.needs_check):
        return 0
    parallel = study.spec.budget.parallel
    return limit if parallel is None else max(0, min(limit, parallel - uow.count_running()))


def start(uow: StudyUnitOfWork, trial: HeldTrial, worker: str) -> HeldTrial:
    """Start the next attempt from the newest checkpoint. Reports of later steps are deleted: this attempt reports them again.

    From which step a script resumes is not known, so its reports stay until the attempt replaces them. A claimant over REST begins anew.
    """
    resumed = trial.checkpoints[0].step if trial.checkpoints else 0
    resumes_itself = isinstance(uow.study.spec, ProgramStudy) and uow.attempts.token_sha256 is None
    if trial.step > resumed and not resumes_itself:
        uow.metrics.forget_above(trial, resumed)
        trial = replace(trial, step=resumed, metrics=uow.metrics.at(trial, resumed))
    superseded = ("pace",) if trial.checkpoints else ATTEMPT_RESULTS  # a resumed attempt reuses the same stored outputs
    return uow.save(_started_step(_as_running(uow, replace(trial, result=without(trial.result, superseded)), worker)))


def start_completed(uow: StudyUnitOfWork, trial: HeldTrial, suggestion: Suggestion, worker: str) -> HeldTrial:
    """Start a trial that was queued with some of its parameters, completed by the suggestion.

    A duplicate of an ended trial ends with a copy of its result; a duplicate of an open trial waits for it.
    """
    whole = replace(trial, params=dict(suggestion.params), memory={**trial.memory, **suggestion.memory})
    original = originals_of(uow, [whole.params]).get(key_of(whole.params))
    if original is None:
        return start(uow, whole, worker)
    if not original.state.terminal:
        return uow.save(_queued_step(replace(whole, duplicate_of=original.number), duplicate_of=original.number))
    ended = uow.save(completion_event(copy_result(whole, original, uow.now)))
    uow.metrics.copy_to(ended)
    complete_if_spent(uow)
    return ended


def completions(store: Store, searches: Searches, study: Study, limit: int, device_bytes: int = 0) -> dict[int, Suggestion]:
    """Suggestions by number for those of the first `limit` queued trials that lack parameters.

    The sampler runs before the study is locked, so that it does not block other writers.
    Raises StudyNotFound, StudyUnreadable, SearchFailed, StoreUnavailable.
    """
    first = store.read(queued_trials, study.id, limit, device_bytes)
    lacking = [one for one in first if one.attempt == 0 and study.spec.search_space.missing(one.params)]
    if not lacking:
        return {}
    with searches.for_study(store, study) as cached:
        return {one.number: cached.complete(one.number, one.params) for one in lacking}


def insert(
    uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], worker: str, start_at: Collection[int] | None = None
) -> list[HeldTrial]:
    """Add trials for suggestions that were made for the study's next numbers.

    A duplicate of an ended trial copies its result; a duplicate of an open trial waits for it. Of the other suggestions, those at
    the indices `start_at` start at once (None: all of them), and the rest are queued for the next claim.
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
    """Originals by parameter key: the first ended trial whose result duplicates copy, or else the first open trial."""
    found = uow.originals(params)
    useful = [one for one in found if result_holds_for_duplicates(one) or not one.state.terminal]
    worst_first = sorted(useful, key=lambda one: (result_holds_for_duplicates(one), -one.number))
    return {key_of(one.params): one for one in worst_first}


def claim_of(study: Study, trial: HeldTrial) -> Claim:
    """The claim of a started trial, as the worker receives it."""
    spec, facts = study.spec, study.facts
    lease = Lease(study=trial.study, trial=trial.id, number=trial.number, attempt=trial.attempt, worker=trial.worker or "")
    return Claim(
        lease=lease,
        spec=spec,
        facts=facts,
        params=trial.params,
        round=trial.round,
        checkpoints=trial.checkpoints,
        demand=spec.demand(trial.number, facts) if trial.round is None else spec.demand_of_repeats(trial.params, trial.round, facts),
        depths=depths_in(trial.result) if trial.checkpoints else None,
        step=trial.step,
    )


def _first_step(uow: StudyUnitOfWork, new: HeldTrial, original: HeldTrial | None, worker: str | None) -> Step:
    if original is None:
        return _started_step(_as_running(uow, new, worker)) if worker is not None else _queued_step(new)
    if original.state.terminal:
        return completion_event(copy_result(new, original, uow.now))
    return _queued_step(replace(new, duplicate_of=original.number, source="duplicate"), duplicate_of=original.number)


def _as_running(uow: StudyUnitOfWork, trial: HeldTrial, worker: str) -> HeldTrial:
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


def _started_step(trial: HeldTrial) -> Step:
    body = {"params": dict(trial.params), "worker": trial.worker, "source": trial.source, "step": trial.step}
    return Step(trial, EventKind.TRIAL_STARTED, body)


def _queued_step(trial: HeldTrial, **fields: Any) -> Step:
    return Step(trial, EventKind.TRIAL_QUEUED, {"params": dict(trial.params), "source": trial.source, **fields})


MAX_DUPLICATES = 100  # that one claim adds
MAX_ROUNDS = 6  # in which one claim asks the sampler, if other claims take the numbers each time
MAX_QUEUED = 1_024  # queued trials of a study that one claim examines for compatible ones
LOOK_AHEAD = 4  # suggestions for each place in a batched run, since some are incompatible
COMPLETED_PER_CLAIM = 4  # first queued trials, of which those that lack parameters are completed
EMPTY: Mapping[int, Suggestion] = MappingProxyType({})
MAX_SUGGESTIONS = 512  # suggestions in one transaction

log = logging.getLogger(__name__)


def claim_together(
    store: Store,
    searches: Searches,
    worker: str,
    lane_bytes: int,
    accepts: Callable[[Study], bool] = lambda study: True,
    device_bytes: int = 0,
) -> list[Claim]:
    """Claim the next trial, with the trials of its study that can be trained together with it. Raises StoreUnavailable.

    `lane_bytes` bounds the memory of the heads. Studies for which `accepts` returns False are skipped. `device_bytes` is the memory of the
    accelerator that runs the trials, 0 without one: trials that ran out of memory wait for a larger one. The study with the fewest running
    trials comes first. Within a study, queued trials come before new ones, and trials that were started before come first of all.
    Only trials that were never started join the first one, and new ones join when no other trial is queued.

    A suggestion belongs to a trial number, so incompatible suggestions between compatible ones are queued. With a sampler that
    does not learn, the claim adds suggestions up to the last compatible one. With an adaptive sampler it adds all suggestions
    that were made at once: leaving some out would favour the configurations that can be trained together. If the first
    suggestion has to train alone, no further ones are requested.
    """
    for candidate in store.read(queries.candidates, device_bytes):
        if not accepts(candidate.study):
            continue
        claimant = Claimant(worker, device_bytes)
        if claims := _claims_or_end(store, candidate.study, partial(_claim_from, store, searches, candidate, claimant, lane_bytes)):
            return claims
    return []


def claim_alone(store: Store, searches: Searches, study: str, claimant: Claimant) -> None:
    """Claim the next trial of the study, if there is one, in a transaction of the claimant. Raises StoreUnavailable."""
    if (found := store.read(queries.candidate, study, claimant.device_bytes)) is not None:
        _claims_or_end(store, found.study, partial(_claim_from, store, searches, found, claimant, lane_bytes=0))


def _claims_or_end(store: Store, study: Study, take: Callable[[], list[Claim]]) -> list[Claim]:
    """The claims that `take` returns. Empty when the study was deleted, or when its sampler fails, which ends the study."""
    try:
        try:
            return take()
        except SearchFailed as error:
            log.exception("study %s ends because its search failed", study.id)
            fail_study(store, study.id, str(error))
    except (StudyNotFound, StudyUnreadable) as error:
        log.info("no trial was claimed of study %s: %s", study.id, error)
    return []


def _claim_from(store: Store, searches: Searches, candidate: Candidate, claimant: Claimant, lane_bytes: int) -> list[Claim]:
    study = candidate.study
    lanes = _lanes(study, lane_bytes)
    if candidate.claimable and not _queue_leaves_places(store, candidate, lanes, claimant.device_bytes):
        whole = completions(store, searches, study, COMPLETED_PER_CLAIM, claimant.device_bytes)
        with claimant.locked(store, study.id) as uow:
            started, _ = _start_queued(uow, claimant, lanes, whole)
        if started:
            return [claim_of(study, trial) for trial in started]
    return _claim_with_new(store, searches, study, claimant, lanes) if _can_add(store, candidate) else []


def _can_add(store: Store, candidate: Candidate) -> bool:
    """Whether a new trial may be added, judged without the lock. Starts the confirmation or the end of a study without open trials."""
    study = candidate.study
    if candidate.exhausted or is_spent(study):
        if not candidate.running and not candidate.queued:
            carry_on(store, study)
        return False
    parallel = study.spec.budget.parallel
    return parallel is None or candidate.running < parallel


def _lanes(study: Study, lane_bytes: int) -> int:
    if study.facts is None or not isinstance(study.spec, TrainingStudy) or not may_share(study.spec, study.facts):
        return 1
    lanes = lane_budget(study.spec, study.facts, lane_bytes, study.created)
    return min(lanes, study.spec.budget.parallel or lanes)


def _queue_leaves_places(store: Store, candidate: Candidate, lanes: int, device_bytes: int) -> bool:
    """Whether all queued trials can be trained together and leave places for new ones."""
    study = candidate.study
    if candidate.claimable >= lanes or candidate.exhausted or study.created >= study.spec.budget.max_trials:
        return False
    keys = {_key_of(study, trial) for trial in store.read(queued_trials, study.id, lanes, device_bytes)}
    return len(keys) == 1 and None not in keys


def _key_of(study: Study, trial: QueuedTrial | HeldTrial) -> SharedKey | None:
    """The shared key of a trial that was never started and has all its parameters; None for others, which train alone."""
    if trial.attempt or study.spec.search_space.missing(trial.params):
        return None
    return shared_key(study.spec, study.facts, trial.params, trial.round)


def _start_queued(
    uow: StudyUnitOfWork, claimant: Claimant, lanes: int, whole: Mapping[int, Suggestion] = EMPTY
) -> tuple[list[HeldTrial], SharedKey | None]:
    """Start the first queued trial with all that can be trained together with it; returns them and their shared key.

    `whole` has suggestions by number for trials that lack parameters; such a trial without a suggestion is skipped.
    """
    complete_if_spent(uow)
    most = available_slots(uow, claimant, lanes)
    found = uow.claimable(MAX_QUEUED if most > 1 else most, claimant.device_bytes)
    queue = claimant.suited(trial for trial in found if trial.state is TrialState.QUEUED)  # complete_if_spent may have cancelled some
    worker = claimant.worker
    spec = uow.study.spec
    while queue and spec.search_space.missing(queue[0].params):
        first = queue.pop(0)
        if first.number in whole and (one := start_completed(uow, first, whole[first.number], worker)).state is TrialState.RUNNING:
            return [one], None
    if not queue:
        return [], None
    key = _key_of(uow.study, queue[0])
    joining = queue[:1] if key is None else [trial for trial in queue if _key_of(uow.study, trial) == key]
    return [start(uow, trial, worker) for trial in joining[:most]], key


def _claim_with_new(store: Store, searches: Searches, study: Study, claimant: Claimant, lanes: int) -> list[Claim]:
    """Claim new trials, together with compatible queued ones. Adds duplicates, which need no worker, until a trial starts."""
    duplicates = 0
    with searches.turn(study) as cached:
        while duplicates < MAX_DUPLICATES and (touched := _add(store, cached, study, claimant, lanes)):
            if running := [claim_of(study, trial) for trial in touched if trial.state is TrialState.RUNNING]:
                return running
            duplicates += len(touched)
    return []


def _add(store: Store, cached: CachedSearch, study: Study, claimant: Claimant, lanes: int) -> list[HeldTrial]:
    """Ask the sampler without a lock; then, under the lock, start queued trials and add the suggestions that are still valid.

    Returns no trial when none may be added, or when other claims took the numbers in each round.
    """
    # A suggestion is a function of the spec, the history and the trial number, so it is valid for that number alone. Suggestions whose
    # numbers other claims took in the meantime are dropped, and the sampler is asked again with the newer history.
    surplus = 0
    for _ in range(MAX_ROUNDS):
        cached.refresh(store)
        left = study.spec.budget.max_trials - cached.created
        suggestions = _suggest(cached, study, min(lanes, left), left, surplus) if left > 0 else []
        with claimant.locked(store, study.id) as uow:
            started, key = _start_queued(uow, claimant, lanes)
            if left <= 0 or (started and key is None):
                return started
            taken = uow.study.created - cached.created
            if taken == 0 or (surplus and taken < len(suggestions)):
                uow.exhausted = uow.exhausted or not suggestions
                return started + _insert(uow, suggestions[taken:], claimant, lanes - len(started), key)
            if started:
                return started
        surplus = 2 * max(surplus, taken)  # extra suggestions: other claims may take as many numbers again
    return []


def _suggest(cached: CachedSearch, study: Study, lanes: int, left: int, surplus: int) -> list[Suggestion]:
    """Suggestions for the next numbers; more than one only if several can be trained together."""
    if lanes == 1 or learns(study.spec.sampler):
        return cached.suggest(lanes + surplus)
    for ahead in (1, lanes, min(LOOK_AHEAD * lanes, left, MAX_SUGGESTIONS)):
        suggestions = cached.suggest(ahead + surplus)
        keys = {shared_key(study.spec, study.facts, one.params) for one in suggestions}
        if keys == {None} or (ahead == lanes and len(keys) == 1):
            break
    return suggestions


def _insert(
    uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], claimant: Claimant, lanes: int, key: SharedKey | None
) -> list[HeldTrial]:
    """Add new trials. At most `lanes` of them start: those with `key`, or with the key of the first suggestion that is no duplicate."""
    most = available_slots(uow, claimant, lanes)
    if not suggestions or most <= 0 or is_spent(uow.study):
        complete_if_spent(uow)
        return []
    spec = uow.study.spec
    ahead = suggestions[: spec.budget.max_trials - uow.study.created]
    joining, count = _select_joining(uow, ahead[:lanes] if learns(spec.sampler) else ahead, key, most)
    return insert(uow, ahead[:count], claimant.worker, frozenset(joining))


def _select_joining(uow: StudyUnitOfWork, suggestions: Sequence[Suggestion], key: SharedKey | None, most: int) -> tuple[list[int], int]:
    """The indices of the suggestions that start together, and how many suggestions become trials. See `claim_together`."""
    spec, facts = uow.study.spec, uow.study.facts
    untried = _untried(uow, suggestions)
    if not untried:
        return [], len(suggestions)
    key = key or shared_key(spec, facts, suggestions[untried[0]].params)
    if key is None:
        return untried[:1], untried[0] + 1
    joining = [place for place in untried if shared_key(spec, facts, suggestions[place].params) == key][:most]
    if learns(spec.sampler):
        return joining, len(suggestions)
    return joining, joining[-1] + 1 if joining else 0


def _untried(uow: StudyUnitOfWork, suggestions: Sequence[Suggestion]) -> list[int]:
    """The indices of suggestions whose parameters no earlier trial and no earlier suggestion has."""
    known = set(originals_of(uow, (suggestion.params for suggestion in suggestions)))
    untried = []
    for place, suggestion in enumerate(suggestions):
        if (params_key := key_of(suggestion.params)) not in known:
            known.add(params_key)
            untried.append(place)
    return untried
