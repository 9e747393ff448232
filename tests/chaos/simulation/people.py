"""A person at the study: queues, cancels, pauses and resumes, and asks again with the same key while there is no answer."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from service import operations
from service.domain.errors import BudgetSpent, StoreUnavailable, StudyClosed, TrialClosed, TrialNotFound
from service.domain.records import Trial
from service.domain.states import TrialState
from service.operations import Idempotency, Replay
from tests.chaos.simulation.world import Process

if TYPE_CHECKING:
    from tests.chaos.simulation.run import Simulation

T = TypeVar("T")


class People:
    """Remembers what it was told."""

    def __init__(self, simulation: "Simulation") -> None:
        self._simulation, self._world = simulation, simulation.world
        self._store = simulation.store()
        self._study = simulation.study.id
        self._asked = 0
        self.queued: set[str] = set()  # numbers, as answered
        self.cancelled: set[int] = set()
        self._world.spawn(Process(self._world, "person"), self.live)

    def live(self) -> None:
        random = self._world.random
        while self._world.now < self._simulation.fault_seconds:
            self._world.sleep(random.expovariate(1 / 25))
            act = random.choice((self.queue, self.cancel, self.pause))
            try:
                act()
            except (StudyClosed, BudgetSpent):
                return

    def queue(self) -> None:
        """One trial, however often it takes to be heard."""
        self._asked += 1
        key = Idempotency(f"{self._study}-{self._asked}", "a" * 64, lambda _, trial: str(trial.number))
        try:
            number = str(self._until_answered(lambda: operations.queue_trial(self._store, self._study, {"lr": 0.25}, key)).number)
        except Replay as replay:
            self._simulation.counts["requests replayed"] += 1
            number = replay.answer
        assert number not in self.queued, f"I27: trial {number} answers two requests"
        self.queued.add(number)

    def cancel(self) -> None:
        number = self._world.random.randrange(self._simulation.study.spec.budget.max_trials)
        try:
            self._until_answered(lambda: operations.cancel_trial(self._store, self._study, number))
        except (TrialClosed, TrialNotFound):
            return
        self.cancelled.add(number)
        self._simulation.counts["trials cancelled"] += 1

    def pause(self) -> None:
        self._until_answered(lambda: operations.pause_study(self._store, self._study))
        self._world.sleep(self._world.random.uniform(1, 30))
        self._until_answered(lambda: operations.resume_study(self._store, self._study))

    def _until_answered(self, request: Callable[[], T]) -> T:
        while True:
            try:
                return request()
            except StoreUnavailable:
                self._world.sleep(2)

    def broken(self, trials: Sequence[Trial]) -> Iterator[str]:
        """I18, I27."""
        for number in self.cancelled:
            if trials[number].state is not TrialState.CANCELLED:
                yield f"I18: trial {number} was cancelled, and is {trials[number].state}"
        by_people = {str(trial.number) for trial in trials if trial.source == "user"}
        if len(by_people - self.queued) > 1:  # the last request may still be without an answer
            yield f"I27: {sorted(by_people)} were queued, {sorted(self.queued)} asked for"
        if missing := self.queued - by_people:
            yield f"I27: trials {sorted(missing)} were acknowledged, and are not there"
