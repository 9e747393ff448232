"""Hyperband's brackets (Li et al. 2018): Optuna's, but that each trial's bracket is worked out once, not for every decision."""

from collections.abc import Container
from typing import Any

import optuna
from optuna.pruners import HyperbandPruner
from optuna.trial import FrozenTrial, TrialState


class BracketPruner(HyperbandPruner):
    """Hyperband for many decisions on one study."""

    def __init__(self, min_steps: int, max_steps: int, reduction_factor: int) -> None:
        super().__init__(min_steps, max_steps, reduction_factor)
        self._bracket_of: dict[tuple[str, int], int] = {}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends, compared with those of its bracket."""
        bracket = self.bracket(study, trial)
        return bool(self._pruners[bracket.id].prune(bracket, trial))  # type: ignore[arg-type]  # all that it asks of a study

    def bracket(self, study: optuna.Study, trial: FrozenTrial) -> "Bracket":
        """The trials that this one competes with."""
        return Bracket(self, study, self.id_of(study, trial))

    def id_of(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """The trial's bracket: it follows from the study's name and the trial's number."""
        if not self._pruners:
            self._try_initialization(study)
        if (key := (study.study_name, trial.number)) not in self._bracket_of:
            self._bracket_of[key] = self._get_bracket_id(study, trial)
        return self._bracket_of[key]


class Bracket:
    """What successive halving asks of a study, with the trials of one bracket."""

    def __init__(self, pruner: BracketPruner, study: optuna.Study, bracket_id: int) -> None:
        self.id = bracket_id
        self._pruner, self._study = pruner, study
        self._storage: Any = study._storage
        self.direction = study.direction

    def get_trials(self, deepcopy: bool = False, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """Those of the study's trials that are in the bracket."""
        trials = self._study.get_trials(deepcopy=deepcopy, states=states)
        return [trial for trial in trials if self._pruner.id_of(self._study, trial) == self.id]
