"""Every write: one function, one transaction, and the event that tells of it inside that transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Scalar
from service.domain.records import Claim, Lease, Report, Study, Trial, Worker
from service.domain.spec import StudySpec
from service.search.study import Decision, StudySearch
from service.store import Store
from trainer.contract import Checkpoint, Facts, Failed, Finished


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, the digest of its request, and how the answer to store is written from the result."""

    key: str
    request_sha256: str
    answer: Callable[[Study | Trial], str]


@dataclass(frozen=True, slots=True)
class Pruned:
    """The pruner ended the trial; `why` is its reason in a sentence."""

    why: str


@dataclass(frozen=True, slots=True)
class Released:
    """The worker hands the trial back unfinished; the attempt is not counted against it."""


Outcome = Finished | Failed | Pruned | Released


@dataclass(frozen=True, slots=True)
class Write:
    """All that a worker has to say about one trial at one time. Fenced by its lease."""

    lease: Lease
    reports: Sequence[Report] = ()
    checkpoint: Checkpoint | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None
    outcome: Outcome | None = None


class Searches:
    """The studies' search memories of one process, each brought up to date from the rows before it is asked."""

    def for_study(self, store: Store, study: Study) -> StudySearch: ...


# studies
def create_study(store: Store, spec: StudySpec, idempotency: Idempotency | None = None) -> Study: ...  # NameTaken, IdempotencyConflict; queues the baseline as trial 0
def pause_study(store: Store, study: str) -> Study: ...  # StudyNotFound, StudyClosed when terminal; a no-op without event when already so
def resume_study(store: Store, study: str) -> Study: ...
def stop_study(store: Store, study: str) -> Study: ...  # cancels queued, paused and running trials
def delete_study(store: Store, study: str) -> None: ...
def pass_check(store: Store, study: str, facts: Facts) -> Study: ...  # first one wins, later equal ones are no-ops
def fail_study(store: Store, study: str, reason: str) -> Study: ...  # also cancels what is open

# trials, by people
def queue_trial(store: Store, study: str, params: Mapping[str, Scalar], idempotency: Idempotency | None = None) -> Trial: ...  # BudgetSpent, StudyClosed
def cancel_trial(store: Store, study: str, number: int) -> Trial: ...  # TrialNotFound, TrialClosed

# trials, by workers
def claim(store: Store, searches: Searches, worker: str, limit: int = 1) -> list[Claim]: ...
def decide(store: Store, searches: Searches, lease: Lease, values: Mapping[int, float]) -> Decision: ...  # reads only; the caller records
def record(store: Store, writes: Sequence[Write]) -> list[Lease]: ...  # returns the leases that were lost; the others' writes are in
def heartbeat(store: Store, worker: str, leases: Sequence[Lease]) -> list[Lease]: ...  # returns the lost ones
def requeue_lost(store: Store, suspects: Sequence[tuple[Lease, int]]) -> int: ...  # (lease, heartbeat counter seen); compare-and-set

# workers
def register_worker(store: Store, worker: Worker) -> None: ...
def retire_worker(store: Store, worker: str) -> None: ...
