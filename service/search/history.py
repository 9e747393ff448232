"""A study's trials in the form that Optuna's samplers and pruners read."""

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
    """Every trial of a study by number. The result does not depend on the order in which rows are absorbed.

    A trial whose parameters cannot be trained (by `service.domain.failures`) is represented as complete, with a violated
    constraint and the worst known value. Queued and paused trials count as running. Trials that were cancelled, or that failed
    for a reason other than their parameters, count as failed, and samplers ignore them. A duplicate counts as one more trial
    with the result of its original.
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
        """Insert or update trials, with (number, step, value) of all their reports. Returns them as Optuna's trials."""
        curves = defaultdict[int, dict[int, float]](dict)
        for number, step, value in values:
            if math.isfinite(value):
                curves[number][step] = value
        changed = [self._put(trial, curves[trial.number]) for trial in trials]
        self._update_infeasible(changed)
        return changed

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        return [self._trials[number] for number in self._numbers]

    def trial(self, number: int) -> FrozenTrial | None:
        """The trial of that number, if it is known."""
        return self._trials.get(number)

    def study_notes(self) -> dict[str, Any]:
        """The samplers' notes on the study as a whole, which are stored with the trials."""
        return {key: value for key, (_, value) in self._study_notes.items()}

    @contextmanager
    def supposing(self) -> Iterator[Callable[[int, Params, Mapping[str, Any]], None]]:
        """A context that yields a function to add trials as running. They and their notes are removed at its end."""
        numbers, notes = list(self._numbers), dict(self._study_notes)
        try:
            yield self._suppose
        finally:
            for number in set(self._numbers) - set(numbers):
                del self._trials[number]
            self._numbers, self._study_notes = numbers, notes

    @contextmanager
    def without(self, number: int) -> Iterator[None]:
        """A context in which the trial of that number is absent."""
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
        # The note of the trial with the highest number wins, so the order in which trials arrive does not matter.
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

    def _update_infeasible(self, changed: list[FrozenTrial]) -> None:
        """Give all infeasible trials the worst finite value of the study, which may have changed."""
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
        """Optuna's Gaussian process requires a constraint on all complete trials as soon as one has it."""
        for frozen in trials:
            if frozen.state is OptunaState.COMPLETE:
                frozen.system_attrs.setdefault(CONSTRAINT, FEASIBLE)


def is_infeasible(trial: Trial) -> bool:
    """Whether the trial ended in a way that shows that its parameters cannot be trained."""
    if trial.state is TrialState.COMPLETE:
        return trial.value_kind is not ValueKind.FINITE
    policy = policy_of(trial)
    return policy is not None and policy.infeasible


STUDY_ID = 0


class ReadOnlyStorage(RuntimeError):
    """Optuna tried to write to a storage that only reads."""


class StudyRows(BaseStorage):
    """Optuna storage over the history, without copies, and one trial `current` whose parameters and notes Optuna may write."""

    def __init__(self, history: History, name: str, current: FrozenTrial) -> None:
        self._history = history
        self._name = name
        self.current = current
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
        return self.current if trial is None or trial_id == self.current.number else trial

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._history.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.trial_notes[key] = value
        self.current.system_attrs[key] = value

    def set_trial_param(self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution) -> None:
        self.current.params[param_name] = distribution.to_external_repr(param_value_internal)
        self.current.distributions[param_name] = distribution

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ReadOnlyStorage("This storage is a view of the study's rows; Optuna cannot write to it.")

    create_new_study = delete_study = set_study_user_attr = get_all_studies = create_new_trial = _refuse
    set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = _refuse


class RowsForPruners(StudyRows):
    """Storage for decisions on several trials in turn. `peers`, by number, replace trials of the history.

    Infeasible trials are represented as complete for the samplers. Pruners that ask for complete trials do not get them.
    """

    def __init__(self, history: History, name: str, peers: Mapping[int, FrozenTrial]) -> None:
        super().__init__(history, name, running_trial(-1))
        self._known = history.trials
        self._places = {trial.number: place for place, trial in enumerate(self._known)} if peers else {}
        self._trials = list(self._known)
        for number, trial in peers.items():
            if number in self._places:
                self._trials[self._places[number]] = trial

    def select(self, trial: FrozenTrial) -> None:
        """Make this the trial under consideration. It sees its own row of the history, not its entry in `peers`."""
        self.current, self.trial_notes = trial, {}
        self._seen = self._trials.copy()
        if (place := self._places.get(trial.number)) is not None:
            self._seen[place] = self._known[place]

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        if states is None:
            return self._seen
        return [trial for trial in self._seen if trial.state in states and trial.system_attrs.get(CONSTRAINT) != INFEASIBLE]


def running_trial(number: int, values: dict[int, float] | None = None, notes: dict[str, Any] | None = None) -> FrozenTrial:
    """A running trial without parameters, in Optuna's form."""
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
