"""Samplers of Optuna's own, asked for one trial at a time: Gaussian process, quasi-Monte-Carlo, NSGA-II."""

import importlib.util
import math
from abc import abstractmethod
from collections.abc import Container
from typing import ClassVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from service.domain.errors import ThawlineError
from service.domain.samplers import Gp, Nsga2, Qmc
from service.domain.spec import StudySpec
from service.search.answers import Suggestion
from service.search.distributions import Distributions
from service.search.experimental import quietly
from service.search.history import STUDY_NOTE, History
from service.search.rows import Rows, running_trial
from service.search.sampler import Sampler
from service.search.seeds import seed32

STUDY_NAME = "thawline"
MOST_LEARNED = 500  # complete trials that a Gaussian process learns from
MOST_DISTANCES = 4_000_000  # numbers in the differences of each trial to each in every parameter, 32 MB


class TorchMissing(ThawlineError):
    """The Gaussian process needs torch where it suggests."""

    def __init__(self) -> None:
        super().__init__("The sampler gp needs torch where it suggests: install thawline[trainer] there, or choose another sampler.")


class OptunaSearch(Sampler):
    """A fresh sampler of Optuna's for each suggestion, so that nothing but the history can speak in it.

    Trials of one batch see those before them as running.
    """

    kept_notes: ClassVar[str] = "-"  # what the notes that must come back begin with

    @abstractmethod
    def sampler(self, number: int) -> BaseSampler:
        """The sampler for the trial of that number."""

    def rows(self, number: int) -> Rows:
        """The trials that the sampler sees when it is asked for the trial of that number."""
        return Rows(self.history, STUDY_NAME, running_trial(number))

    def suggest(self, number: int, count: int) -> list[Suggestion]:
        with self.history.supposing() as suppose:
            suggestions = []
            for each in range(number, number + count):
                suggestions.append(suggestion := self._ask(each))
                suppose(each, suggestion.params, suggestion.memory)
            return suggestions

    def _ask(self, number: int) -> Suggestion:
        rows = self.rows(number)
        trial = optuna.Trial(optuna.Study(STUDY_NAME, rows, self.sampler(number), optuna.pruners.NopPruner()), number)
        params = self.distributions.walk(lambda name: trial._suggest(name, self.distributions.all[name]))
        notes = rows.trial_notes | {STUDY_NOTE + key: value for key, value in rows.study_notes.items()}
        return Suggestion(params, {key: note for key, note in notes.items() if key.removeprefix(STUDY_NOTE).startswith(self.kept_notes)})


class GaussianProcess(OptunaSearch):
    """Expected improvement under a Gaussian process; a second one for the constraint learns from infeasible trials. Ignores pruned ones."""

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Gp) -> None:
        super().__init__(spec, distributions, history)
        self._options = options

    def sampler(self, number: int) -> BaseSampler:
        """Raises TorchMissing."""
        if importlib.util.find_spec("torch") is None:
            raise TorchMissing
        complete = sum(trial.state is OptunaState.COMPLETE for trial in self.history.trials)
        startup = self._options.n_startup_trials if complete < self._options.n_startup_trials else 0  # it may see fewer than there are
        return _Gp(self.distributions.unconditional, seed32(self.seed, number), self._options, startup)

    def rows(self, number: int) -> Rows:
        width = max(1, len(self.distributions.unconditional))
        return _FewRows(self.history, STUDY_NAME, running_trial(number), min(MOST_LEARNED, math.isqrt(MOST_DISTANCES // width)))


class _FewRows(Rows):
    """Of the complete trials at most so many: one half are the newest, the other half the best of the rest.

    A Gaussian process compares each with each in every parameter, which takes memory with the square of their number.
    """

    def __init__(self, history: History, name: str, asked: FrozenTrial, most: int) -> None:
        super().__init__(history, name, asked)
        complete = [trial for trial in history.trials if trial.state is OptunaState.COMPLETE]
        newest, rest = complete[-(most // 2) :], complete[: -(most // 2)]
        ranked = sorted(rest, key=lambda trial: math.inf if trial.value is None else history.sign * trial.value)
        self._left_out = {trial.number for trial in ranked[most - len(newest) :]}

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[OptunaState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in super().get_all_trials(study_id, deepcopy, states) if trial.number not in self._left_out]


class _Gp(GPSampler):
    def __init__(self, space: dict[str, BaseDistribution], seed: int, options: Gp, startup: int) -> None:
        super().__init__(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
        self._deterministic = options.deterministic_objective  # the argument of that name warns that it is experimental
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space


class QuasiMonteCarlo(OptunaSearch):
    """A low-discrepancy sequence over all parameters, conditional ones too. Learns nothing from results."""

    kept_notes = "qmc:"

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Qmc) -> None:
        super().__init__(spec, distributions, history)
        self._options = options
        self._space = {name: each for name, each in distributions.all.items() if not each.single()}

    def sampler(self, number: int) -> BaseSampler:
        seed = seed32(self.seed, 0)
        sampler = quietly(
            _Qmc, qmc_type=self._options.qmc_type, scramble=self._options.scramble, seed=seed, warn_independent_sampling=False
        )
        sampler.space = self._space
        return sampler


class _Qmc(QMCSampler):
    space: dict[str, BaseDistribution]

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.space


class Nsga(OptunaSearch):
    """Generations of children of the fittest; infeasible trials are dominated by all others. Ignores pruned trials."""

    kept_notes = "_Nsga:"  # Optuna derives it from the type below

    def __init__(self, spec: StudySpec, distributions: Distributions, history: History, options: Nsga2) -> None:
        super().__init__(spec, distributions, history)
        self._options = options

    def sampler(self, number: int) -> BaseSampler:
        return _Nsga(self.distributions.unconditional, seed32(self.seed, number), self._options)


class _Nsga(NSGAIISampler):
    def __init__(self, space: dict[str, BaseDistribution], seed: int, options: Nsga2) -> None:
        super().__init__(
            population_size=options.population_size,
            mutation_prob=options.mutation_prob,
            crossover_prob=options.crossover_prob,
            swapping_prob=options.swapping_prob,
            seed=seed,
        )
        self._space = space

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space
