"""Our rows as Optuna's trials: what the samplers and pruners know of the past."""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
    return policy is not None and policy.told
