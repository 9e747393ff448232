"""Optuna's storage over trials that are only looked at: nothing is copied, nothing can be written."""

from collections.abc import Container
from typing import Any

from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.search.rows import STUDY_ID, ReadOnly


class OutcomeRows(BaseStorage):
    """Frozen trials in the order of their numbers."""

    def __init__(self, direction: StudyDirection, trials: list[FrozenTrial]) -> None:
        self._direction = direction
        self._trials = trials

    def get_study_id_from_name(self, study_name: str) -> int:
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        return ""

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return next(trial for trial in self._trials if trial.number == trial_id)

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise ReadOnly("These trials are only looked at.")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = get_all_studies = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = set_trial_system_attr = _refuse
