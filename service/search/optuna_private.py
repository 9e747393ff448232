"""The private names of Optuna that Thawline uses, under public names of our own.

No other module uses a private name of Optuna. `tests/search/test_optuna_private.py` lists the names, so that a new version of Optuna can be
checked by this module alone.
"""

from collections.abc import Container
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna._transform import _SearchSpaceTransform as SearchSpaceTransform
from optuna.distributions import BaseDistribution
from optuna.pruners import HyperbandPruner
from optuna.pruners._percentile import _get_percentile_intermediate_result_over_trials as percentile_at
from optuna.pruners._successive_halving import _completed_rung_key as rung_key
from optuna.pruners._successive_halving import _get_current_rung as next_rung
from optuna.samplers import GPSampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator as ParzenEstimator
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimatorParameters as ParzenEstimatorParameters
from optuna.samplers._tpe.probability_distributions import _BatchedCategoricalDistributions as CategoricalKernels
from optuna.samplers._tpe.probability_distributions import _BatchedDiscreteTruncLogNormDistributions as DiscreteTruncLogNormKernels
from optuna.samplers._tpe.probability_distributions import _BatchedDiscreteTruncNormDistributions as DiscreteTruncNormKernels
from optuna.samplers._tpe.probability_distributions import _BatchedTruncLogNormDistributions as TruncLogNormKernels
from optuna.samplers._tpe.probability_distributions import _BatchedTruncNormDistributions as TruncNormKernels
from optuna.samplers._tpe.sampler import default_gamma, default_weights
from optuna.search_space.group_decomposed import _SearchSpaceGroup as SearchSpaceGroup
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

__all__ = [
    "Bracket", "BracketPruner", "CategoricalKernels", "DiscreteTruncLogNormKernels", "DiscreteTruncNormKernels", "ParzenEstimator",
    "ParzenEstimatorParameters", "SearchSpaceGroup", "SearchSpaceTransform", "TruncLogNormKernels", "TruncNormKernels", "default_gamma",
    "default_weights", "make_deterministic", "mixture_of", "next_rung", "percentile_at", "rung_key", "study_key", "suggest",
]  # fmt: skip


def mixture_of(estimator: ParzenEstimator) -> tuple[NDArray[np.float64], list[Any]]:
    """The weights of the kernels, and the kernels of each parameter."""
    mixture = estimator._mixture_distribution
    return mixture.weights, mixture.distributions


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value of the distribution for the trial, whatever the kind of distribution."""
    return trial._suggest(name, distribution)


def make_deterministic(sampler: GPSampler, deterministic: bool) -> None:
    """Set `deterministic_objective`. The argument of that name emits an experimental warning."""
    sampler._deterministic = deterministic


def study_key(study: FrozenStudy) -> int:
    """The key of a study in Optuna's storage."""
    return study._study_id


class BracketPruner(HyperbandPruner):
    """Hyperband that caches the bracket of each trial, for many decisions on one study."""

    def __init__(self, min_steps: int, max_steps: int, reduction_factor: int) -> None:
        super().__init__(min_steps, max_steps, reduction_factor)
        self._bracket_of: dict[tuple[str, int], int] = {}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial is pruned, compared with the trials of its bracket."""
        bracket = self.bracket(study, trial)
        return bool(self._pruners[bracket.id].prune(bracket, trial))  # type: ignore[arg-type]  # has all that successive halving reads

    def bracket(self, study: optuna.Study, trial: FrozenTrial) -> "Bracket":
        """The trials that this one is compared with."""
        return Bracket(self, study, self.id_of(study, trial))

    def id_of(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """The index of the trial's bracket, a function of the study's name and the trial's number."""
        if not self._pruners:
            self._try_initialization(study)
        if (key := (study.study_name, trial.number)) not in self._bracket_of:
            self._bracket_of[key] = self._get_bracket_id(study, trial)
        return self._bracket_of[key]


class Bracket:
    """The part of a study that successive halving reads, restricted to the trials of one bracket."""

    def __init__(self, pruner: BracketPruner, study: optuna.Study, bracket_id: int) -> None:
        self.id = bracket_id
        self._pruner, self._study = pruner, study
        self._storage: Any = study._storage
        self.direction = study.direction

    def get_trials(self, deepcopy: bool = False, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The study's trials that are in the bracket."""
        trials = self._study.get_trials(deepcopy=deepcopy, states=states)
        return [trial for trial in trials if self._pruner.id_of(self._study, trial) == self.id]
