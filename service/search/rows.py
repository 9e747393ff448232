"""Optuna's storage over our history: it reads ours and catches what Optuna would write."""

from collections.abc import Container, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.search.history import CONSTRAINT, INFEASIBLE, History

STUDY_ID = 0


class ReadOnly(RuntimeError):
    """Optuna tried to write to our record."""


class Rows(BaseStorage):
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

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
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
        raise ReadOnly("Our rows are the record; Optuna does not write to them.")

    create_new_study = delete_study = set_study_user_attr = get_all_studies = create_new_trial = _refuse
    set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = _refuse


class RowsForPruners(Rows):
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

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        if states is None:
            return self._seen
        return [trial for trial in self._seen if trial.state in states and trial.system_attrs.get(CONSTRAINT) != INFEASIBLE]


def running_trial(number: int, values: dict[int, float] | None = None, notes: dict[str, Any] | None = None) -> FrozenTrial:
    """A trial under consideration, as Optuna sees it."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.RUNNING,
        value=None,
        params={},
        distributions={},
        intermediate_values=values or {},
        system_attrs=notes or {},
        user_attrs={},
        datetime_start=None,
        datetime_complete=None,
    )
