"""Workers that claim and finish, people who queue and people who cancel, all at one study: what each of them was told."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from service import operations
from service.domain.errors import BudgetSpent, StoreUnavailable, StudyClosed, TrialClosed, TrialNotFound
from service.domain.records import Lease
from service.domain.states import TrialState
from service.store import Store, open_store, queries
from tests.chaos.lab import planted
from tests.chaos.launch import plant
from tests.operations.driving import claim_trials, finished, searches_of

OPEN = (TrialState.QUEUED, TrialState.RUNNING)


@dataclass
class ReportedSoFar:
    """By number: attempts that were claimed, ends that were taken or refused, cancels that won or came too late; and what went wrong."""

    claimed: list[tuple[int, int]] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    too_late: list[int] = field(default_factory=list)
    busy: int = 0  # told to try again
    errors: list[str] = field(default_factory=list)

    def add(self, other: "ReportedSoFar") -> None:
        for name, reported in vars(other).items():
            setattr(self, name, getattr(self, name) + reported)


@dataclass
class Contenders:
    """Those of one process, each a thread, until the study has ended."""

    store: Store
    study: str
    reported: ReportedSoFar = field(default_factory=ReportedSoFar)

    def claim(self) -> Iterator[None]:
        """Claim trials and finish them."""
        searches = searches_of()
        while True:
            for claim in claim_trials(self.store, searches, f"w-{threading.get_ident()}"):
                self.reported.claimed.append((claim.lease.number, claim.lease.attempt))
                (self.reported.refused if self._lost(claim.lease) else self.reported.finished).append(claim.lease.number)
            yield

    def _lost(self, lease: Lease) -> bool:
        """Whether the end of a trial was refused. Tried again until it is answered, as workers do."""
        while True:
            try:
                return bool(operations.record(self.store, [operations.Write(lease, outcome=finished(0.5))]))
            except StoreUnavailable as error:
                self._busy(error)

    def ask(self) -> Iterator[None]:
        """Queue trials while there is room for some."""
        while True:
            self.reported.queued.append(operations.queue_trial(self.store, self.study, {"lr": random.random()}).number)
            yield

    def cancel(self) -> Iterator[None]:
        """Cancel trials that are open, the newest first: claimers are at the oldest ones, and sometimes they meet."""
        while True:
            trials = self.store.read(queries.trials, self.study, states=OPEN, limit=50)
            for trial in random.sample(trials, min(2, len(trials))):
                try:
                    operations.cancel_trial(self.store, self.study, trial.number)
                    self.reported.cancelled.append(trial.number)
                except TrialClosed:
                    self.reported.too_late.append(trial.number)
            time.sleep(0.05)
            yield

    def repeat(self, act: Callable[[], Iterator[None]]) -> None:
        """Act until the study has ended. Whatever is raised but a refusal of the domain is an error that reached a client."""
        while not self.store.read(queries.find_study, self.study).state.terminal:
            try:
                for _ in act():
                    if self.store.read(queries.find_study, self.study).state.terminal:
                        return
            except StoreUnavailable as error:
                self._busy(error)
            except (BudgetSpent, StudyClosed, TrialNotFound):
                time.sleep(0.05)
            except Exception as error:
                self.reported.errors.append(f"{type(error).__name__}: {error}"[:500])
                operations.fail_study(self.store, self.study, "an error reached a client; nobody need go on")

    def _busy(self, error: StoreUnavailable) -> None:
        self.reported.busy += 1
        if "deadlock" in str(error.__cause__):
            self.reported.errors.append(str(error.__cause__)[:500])


def contend(url: str, study: str, claimers: int, askers: int, cancellers: int) -> ReportedSoFar:
    """What was told in one process with so many threads of each kind."""
    plant(planted())
    with closing(open_store(url)) as store:
        ours = Contenders(store, study)
        acts = [ours.claim] * claimers + [ours.ask] * askers + [ours.cancel] * cancellers
        threads = [threading.Thread(target=ours.repeat, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ours.reported


def ask_until_spent(url: str, study: str) -> list[int]:
    """The numbers of the trials that this process was given, one after the other, until there are no more."""
    plant(planted())
    with closing(open_store(url)) as store:
        searches, numbers = searches_of(), list[int]()
        while store.read(queries.find_study, study).created < store.read(queries.find_study, study).spec.budget.max_trials:
            try:
                numbers += [claim.lease.number for claim in claim_trials(store, searches)]
            except StoreUnavailable:
                continue
        return numbers
