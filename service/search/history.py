"""A study's history as Optuna's samplers and pruners read it."""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search_spaces import Params
from service.domain.failures import policy_of
from service.domain.records import Trial
from service.domain.spec import StudySpec
from service.domain.states import TrialState, ValueKind
from service.search.distributions import Distributions

CONSTRAINT = "constraints:runs"
FEASIBLE, INFEASIBLE = -1.0, 1.0
STUDY_NOTE = "study:"

STATES: Mapping[TrialState, OptunaState] = {
    TrialState.QUEUED: OptunaState.RUNNING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}


class History:
    """Every trial of a study by number, equal whether the rows came one by one or all at once, in any order.

    A trial whose parameters cannot be trained (by `service.domain.failures`) stands here as complete with a violated
    constraint and the worst value that is known. Trials that wait or are paused count as running. Trials that were
    cancelled, or failed for a reason that is not their parameters', count as failed, which no sampler looks at. A duplicate
    counts like the trial it was answered from, as if it had been trained again.
    """

    def __init__(self, spec: StudySpec, distributions: Distributions) -> None:
        self.direction = StudyDirection.MAXIMIZE if spec.objective.direction == "maximize" else StudyDirection.MINIMIZE
        self.sign = -1.0 if self.direction is StudyDirection.MAXIMIZE else 1.0
        self._distributions = distributions
        self._trials: dict[int, FrozenTrial] = {}
        self._numbers: list[int] = []
        self._study_notes: dict[str, tuple[int, Any]] = {}
        self._infeasible: dict[int, FrozenTrial] = {}
        self._worst: float | None = None

    def absorb(self, trials: Iterable[Trial], values: Iterable[tuple[int, int, float]]) -> list[FrozenTrial]:
        """Take in trials as they stand now with (number, step, value) of all their reports; give back those that changed."""
        curves = defaultdict[int, dict[int, float]](dict)
        for number, step, value in values:
            if math.isfinite(value):
                curves[number][step] = value
        changed = [self._put(trial, curves[trial.number]) for trial in trials]
        self._settle_infeasible(changed)
        return changed

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        return [self._trials[number] for number in self._numbers]

    def trial(self, number: int) -> FrozenTrial | None:
        """The trial of that number, if it is known."""
        return self._trials.get(number)

    def study_notes(self) -> dict[str, Any]:
        """What samplers noted on the study as a whole: it is kept with the trials."""
        return {key: value for key, (_, value) in self._study_notes.items()}

    @contextmanager
    def supposing(self) -> Iterator[Callable[[int, Params, Mapping[str, Any]], None]]:
        """Within it, trials can be put in as if they were running already; they and their notes are gone afterwards."""
        numbers, notes = list(self._numbers), dict(self._study_notes)
        try:
            yield self._suppose
        finally:
            for number in set(self._numbers) - set(numbers):
                del self._trials[number]
            self._numbers, self._study_notes = numbers, notes

    @contextmanager
    def without(self, number: int) -> Iterator[None]:
        """Within it, the trial of that number is unknown."""
        trial = self._trials.pop(number, None)
        if trial is not None:
            self._numbers.remove(number)
        try:
            yield
        finally:
            if trial is not None:
                self._trials[number] = trial
                insort(self._numbers, number)

    def _suppose(self, number: int, params: Params, memory: Mapping[str, Any]) -> None:
        insort(self._numbers, number)
        self._trials[number] = self._optuna_trial(number, OptunaState.RUNNING, params, memory)
        self._learn_notes(number, memory)

    def _put(self, trial: Trial, curve: Mapping[int, float]) -> FrozenTrial:
        if trial.number not in self._trials:
            insort(self._numbers, trial.number)
        infeasible = is_infeasible(trial)
        state = OptunaState.COMPLETE if infeasible else STATES[trial.state]
        frozen = self._trials[trial.number] = self._optuna_trial(trial.number, state, trial.params, trial.memory)
        frozen.intermediate_values = dict(sorted(curve.items()))
        if infeasible:
            frozen.system_attrs[CONSTRAINT] = INFEASIBLE
        elif trial.value is not None:
            frozen.value = trial.value
        self._learn_notes(trial.number, trial.memory)
        return frozen

    def _learn_notes(self, number: int, memory: Mapping[str, Any]) -> None:
        for key, value in memory.items():
            if key.startswith(STUDY_NOTE) and self._study_notes.get(key[len(STUDY_NOTE) :], (number, None))[0] <= number:
                self._study_notes[key[len(STUDY_NOTE) :]] = (number, value)

    def _optuna_trial(self, number: int, state: OptunaState, params: Params, memory: Mapping[str, Any]) -> FrozenTrial:
        encoded = self._distributions.encode(params)
        return FrozenTrial(
            number=number,
            trial_id=number,
            state=state,
            value=None,
            params=encoded,
            distributions={name: self._distributions.all[name] for name in encoded},
            intermediate_values={},
            system_attrs={key: value for key, value in memory.items() if not key.startswith(STUDY_NOTE)},
            user_attrs={},
            datetime_start=None,
            datetime_complete=None,
        )

    def _settle_infeasible(self, changed: list[FrozenTrial]) -> None:
        was_constrained, worst = bool(self._infeasible), self._worst
        for frozen in changed:
            if frozen.system_attrs.get(CONSTRAINT) == INFEASIBLE:
                self._infeasible[frozen.number] = frozen
                frozen.value = worst or 0.0
            elif frozen.state is OptunaState.COMPLETE and frozen.value is not None:
                worst = frozen.value if worst is None else max(worst, frozen.value, key=lambda value: value * self.sign)
        if worst != self._worst:
            self._worst = worst
            for frozen in self._infeasible.values():
                frozen.value = worst
        if self._infeasible:
            self._mark_feasible(changed if was_constrained else self.trials)

    def _mark_feasible(self, trials: Iterable[FrozenTrial]) -> None:
        """Optuna's Gaussian process wants a constraint on all complete trials once one has it."""
        for frozen in trials:
            if frozen.state is OptunaState.COMPLETE:
                frozen.system_attrs.setdefault(CONSTRAINT, FEASIBLE)


def is_infeasible(trial: Trial) -> bool:
    """Whether the trial's end says that its parameters cannot be trained."""
    if trial.state is TrialState.COMPLETE:
        return trial.value_kind is not ValueKind.FINITE
    policy = policy_of(trial)
    return policy is not None and policy.infeasible


STUDY_ID = 0


class ReadOnlyStorage(RuntimeError):
    """Optuna tried to write to our record."""


class StudyRows(BaseStorage):
    """The history, and one trial under consideration whose parameters and notes Optuna may write; nothing is copied."""

    def __init__(self, history: History, name: str, asked: FrozenTrial) -> None:
        self._history = history
        self._name = name
        self.asked = asked
        self.trial_notes: dict[str, Any] = {}
        self.study_notes: dict[str, Any] = {}

    def get_study_id_from_name(self, study_name: str) -> int:
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._history.direction]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._history.study_notes() | self.study_notes

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self.study_notes[key] = value

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = self._history.trial(trial_id)
        return self.asked if trial is None or trial_id == self.asked.number else trial

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._history.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.trial_notes[key] = value
        self.asked.system_attrs[key] = value

    def set_trial_param(self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution) -> None:
        self.asked.params[param_name] = distribution.to_external_repr(param_value_internal)
        self.asked.distributions[param_name] = distribution

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ReadOnlyStorage("Our rows are the record; Optuna does not write to them.")

    create_new_study = delete_study = set_study_user_attr = get_all_studies = create_new_trial = _refuse
    set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = _refuse


class RowsForPruners(StudyRows):
    """The same for one trial after another, each of which sees those in `peers` as they stand there, by number.

    A trial that stands as infeasible for the samplers' sake is no complete one to be compared with.
    """

    def __init__(self, history: History, name: str, peers: Mapping[int, FrozenTrial]) -> None:
        super().__init__(history, name, running_trial(-1))
        self._known = history.trials
        self._places = {trial.number: place for place, trial in enumerate(self._known)} if peers else {}
        self._trials = list(self._known)
        for number, trial in peers.items():
            if number in self._places:
                self._trials[self._places[number]] = trial

    def ask(self, trial: FrozenTrial) -> None:
        """Turn to this one. It sees itself as the history has it."""
        self.asked, self.trial_notes = trial, {}
        self._seen = self._trials.copy()
        if (place := self._places.get(trial.number)) is not None:
            self._seen[place] = self._known[place]

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        if states is None:
            return self._seen
        return [trial for trial in self._seen if trial.state in states and trial.system_attrs.get(CONSTRAINT) != INFEASIBLE]


def running_trial(number: int, values: dict[int, float] | None = None, notes: dict[str, Any] | None = None) -> FrozenTrial:
    """A trial under consideration, as Optuna sees it."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=OptunaState.RUNNING,
        value=None,
        params={},
        distributions={},
        intermediate_values=values or {},
        system_attrs=notes or {},
        user_attrs={},
        datetime_start=None,
        datetime_complete=None,
    )
