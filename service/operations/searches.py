"""The search memories of one process."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from search_spaces import Params
from service.domain.records import Study
from service.domain.spec import Budget, StudySpec
from service.search.study import Decision, StudySearch, Suggestion
from service.store import Store, queries

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
