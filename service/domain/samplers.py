"""The samplers and pruners that a study may name, with their options. They are those of Optuna."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, StrictInt, model_validator

from search_spaces import Fault, raise_if_any
from search_spaces.parameters import FrozenModel

NonNegative = Annotated[StrictInt, Field(ge=0, le=100_000)]
Positive = Annotated[StrictInt, Field(ge=1, le=100_000)]
MOST_CANDIDATES = 1_000  # for each suggestion; more candidates cost memory and time without a measurable effect
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class _Sampler(FrozenModel):
    seed: StrictInt = Field(default=0, ge=0, le=2**53)


class Tpe(_Sampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023).

    `multivariate` samples the unconditional parameters jointly, Optuna's default since version 5; `group` also samples jointly the
    parameters that share a condition.
    """

    name: Literal["tpe"] = "tpe"
    n_startup_trials: NonNegative = 10
    n_ei_candidates: Annotated[StrictInt, Field(ge=1, le=MOST_CANDIDATES)] = 24
    multivariate: bool = True
    group: bool = False
    constant_liar: bool = True

    @model_validator(mode="after")
    def _groups_are_multivariate(self) -> Self:
        if self.group and not self.multivariate:
            raise_if_any([Fault(("group",), "needs_multivariate", "group needs multivariate: true")])
        return self


class Random(_Sampler):
    name: Literal["random"] = "random"


class Grid(_Sampler):
    """Every combination once. Requires a step on each float range."""

    name: Literal["grid"] = "grid"


class Gp(_Sampler):
    """Gaussian process with expected improvement. The process that suggests needs torch.

    It is fitted to at most 500 complete trials (fewer with more than 16 parameters): the best and the newest ones.
    """

    name: Literal["gp"] = "gp"
    n_startup_trials: NonNegative = 10
    deterministic_objective: bool = False


class CmaEs(_Sampler):
    """Covariance matrix adaptation (Hansen 2016). Categorical and conditional parameters are sampled at random.

    `sigma0` is a fraction of each parameter's range.
    """

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: NonNegative = 1
    sigma0: FiniteFloat | None = Field(default=None, gt=0, le=1e6)
    popsize: Annotated[StrictInt, Field(ge=2, le=10_000)] | None = None
    with_margin: bool = False


class Qmc(_Sampler):
    """Quasi-Monte-Carlo (Bergstra and Bengio 2012)."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = "sobol"
    scramble: bool = True


class Nsga2(_Sampler):
    """Evolution with non-dominated sorting (Deb et al. 2002)."""

    name: Literal["nsga2"] = "nsga2"
    population_size: Annotated[StrictInt, Field(ge=2, le=10_000)] = 50
    mutation_prob: Share | None = None
    crossover_prob: Share = 0.9
    swapping_prob: Share = 0.5


Sampler = Annotated[Tpe | Random | Grid | Gp | CmaEs | Qmc | Nsga2, Field(discriminator="name")]


def within_bounds(sampler: object) -> tuple[object, str | None]:
    """Reduce options of a stored sampler that exceed the current bounds, since earlier versions accepted more.

    Returns the document, and a sentence about the change or None.
    """
    if isinstance(sampler, dict) and sampler.get("name") == "tpe":
        candidates = sampler.get("n_ei_candidates")
        if isinstance(candidates, int) and candidates > MOST_CANDIDATES:
            notice = f"sampler.n_ei_candidates is {candidates} and is taken as {MOST_CANDIDATES}, the most that this version accepts"
            return {**sampler, "n_ei_candidates": MOST_CANDIDATES}, notice
    return sampler, None


class NoPruner(FrozenModel):
    name: Literal["none"] = "none"


class Median(FrozenModel):
    name: Literal["median"] = "median"
    n_startup_trials: NonNegative = 5
    n_warmup_steps: NonNegative = Field(default=0, description="number of first epochs after which no trial is pruned")
    interval_steps: Positive = 1
    n_min_trials: Positive = 1


class Percentile(FrozenModel):
    """Prunes a trial that is worse than the best `percentile` per cent of its peers at the same step."""

    name: Literal["percentile"] = "percentile"
    percentile: FiniteFloat = Field(default=25.0, ge=0, le=100)
    n_startup_trials: NonNegative = 5
    n_warmup_steps: NonNegative = Field(default=0, description="number of first epochs after which no trial is pruned")
    interval_steps: Positive = 1
    n_min_trials: Positive = 1


class Asha(FrozenModel):
    """Asynchronous successive halving (Li et al. 2020)."""

    name: Literal["asha"] = "asha"
    min_steps: Positive = 1
    reduction_factor: Annotated[StrictInt, Field(ge=2, le=100)] = 4
    min_early_stopping_rate: NonNegative = 0


class Hyperband(FrozenModel):
    """Several brackets of successive halving (Li et al. 2018)."""

    name: Literal["hyperband"] = "hyperband"
    min_steps: Positive = 1
    reduction_factor: Annotated[StrictInt, Field(ge=2, le=100)] = 3


class Threshold(FrozenModel):
    """Prunes a trial whose metric leaves [lower, upper]."""

    name: Literal["threshold"] = "threshold"
    lower: FiniteFloat | None = None
    upper: FiniteFloat | None = None
    n_warmup_steps: NonNegative = Field(default=0, description="number of first epochs after which no trial is pruned")
    interval_steps: Positive = 1

    @model_validator(mode="after")
    def _some_bound_is_given(self) -> Self:
        if self.lower is None and self.upper is None:
            raise_if_any([Fault((), "no_bound", "give lower, upper, or both")])
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            raise_if_any([Fault(("lower",), "low_above_high", "lower is above upper; exchange them")])
        return self


class Wilcoxon(FrozenModel):
    """Compares a trial with the best one step by step, by a signed-rank test."""

    name: Literal["wilcoxon"] = "wilcoxon"
    p_threshold: Share = 0.1
    n_startup_steps: NonNegative = 2


class Patient(FrozenModel):
    """Applies the wrapped pruner only after `patience` steps without improvement. Without a wrapped pruner the trial ends then."""

    name: Literal["patient"] = "patient"
    patience: NonNegative
    min_delta: FiniteFloat = Field(default=0.0, ge=0)
    wrapped: Annotated[NoPruner | Median | Percentile | Asha | Hyperband | Threshold | Wilcoxon, Field(discriminator="name")] = NoPruner()


Pruner = Annotated[NoPruner | Median | Percentile | Asha | Hyperband | Threshold | Wilcoxon | Patient, Field(discriminator="name")]
