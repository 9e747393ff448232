"""A study as its author wrote it, checked and frozen: what varies, on which data and model, towards which metric."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, FiniteFloat, StrictInt, create_model, model_validator

from search_spaces import Categorical, Fault, Float, Int, Params, Path, Scalar, SearchSpace, raise_if_any
from search_spaces.parameters import FrozenModel
from service.domain.expected_epochs import TRIALS_WITHOUT_BOUND, epochs_by_depth
from service.domain.samplers import NoPruner as NoPruner
from service.domain.samplers import Pruner, Sampler, Tpe
from trainer.configuration import ByTask, DataConfig, Direction, Hyperparameters, ModelConfig, TrainConfig
from trainer.tasks.base import TaskSpec
from trainer.tasks.registry import spec_of

NOT_SEARCHED = frozenset({"seed", "order_seed"})
MAX_TRIALS = 100_000
MOST_COVERED = 5_000  # configurations of a space that are listed, so that none is tried twice
MAX_NUMBER = 2 * MAX_TRIALS  # of a trial: those that confirm come after those of the search


def searchable(task: TaskSpec) -> set[str]:
    """The hyperparameters that a search space may vary."""
    return set(task.Hyperparameters.model_fields) - NOT_SEARCHED


class Objective(FrozenModel):
    """The validation metric that decides, taken after the last epoch."""

    metric: str = Field(max_length=64)
    direction: Direction


class Budget(FrozenModel):
    """When the search ends: after so many trials, or when so many hours have passed since the first claim."""

    trials: StrictInt | None = Field(default=None, ge=1, le=MAX_TRIALS)
    hours: FiniteFloat | None = Field(default=None, gt=0, le=100_000)
    parallel: StrictInt | None = Field(default=None, ge=1, le=10_000, description="trials that may run at one time")

    @model_validator(mode="after")
    def _it_ends(self) -> Self:
        if self.trials is None and self.hours is None:
            raise_if_any([Fault((), "endless", "a budget names trials, hours, or both")])
        return self

    @property
    def max_trials(self) -> int:
        """The bound on trials, also where only hours were given."""
        return MAX_TRIALS if self.trials is None else self.trials


class Limits(FrozenModel):
    """What a trial may take before it is ended."""

    attempts: StrictInt = Field(
        default=3, ge=1, le=100, description="a trial whose worker was lost, or whose process crashed, so often ends as failed"
    )
    failures: StrictInt | None = Field(
        default=20,
        ge=1,
        le=100_000,
        description="the study fails when so many trials fail one after the other; lost ones do not count; null: never",
    )
    minutes: FiniteFloat | None = Field(default=None, gt=0, le=1_000_000, description="a trial that runs longer ends as failed, timeout")
    checkpoint_seconds: FiniteFloat = Field(default=60.0, ge=0, le=86_400)
    lanes: StrictInt | None = Field(
        default=None, ge=1, le=1_024, description="most trials trained in one pass over the data; 1: each alone; null: chosen"
    )


class Confirm(FrozenModel):
    """What follows the search: the best and the baseline are trained again with fresh seeds, and scored on the test examples."""

    top: StrictInt = Field(default=3, ge=1, le=20, description="configurations, the best of the search by their one value")
    seeds: StrictInt = Field(default=5, ge=2, le=100, description="most runs of each; a race stops the clearly worse ones early")


class StudySpec(ByTask):
    """One study. Every spec that exists can run: see `service.domain.parsing.parse_study`."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=128)]
    task: str
    data: DataConfig
    model: ModelConfig
    preset: str | None = Field(default=None, max_length=64, description="the shipped space that search_space was filled from")
    search_space: SearchSpace
    fixed: Mapping[str, Scalar] = Field(default_factory=dict, description="hyperparameters that do not vary")
    baseline: Mapping[str, Scalar] | None = Field(default=None, description="parameters of trial 0; the rest takes its default")
    objective: Objective
    sampler: Sampler = Tpe()
    pruner: Pruner = NoPruner()
    budget: Budget
    limits: Limits = Limits()
    confirm: Confirm | None = Field(default=None, description="null: the best of the search is never trained again")

    @classmethod
    def of_task(cls, task: str) -> type[Self]:
        """The model with the task's data and model sections. Raises ValueError for a task that is not installed."""
        if task not in cls._models:
            config = TrainConfig.of_task(task).model_fields
            own: Any = {"task": (Literal[task], task), **{name: (config[name].annotation, ...) for name in ("data", "model")}}
            create_model(StudySpec.__name__, __base__=StudySpec, __module__=__name__, **own)
        return super().of_task(task)

    @model_validator(mode="after")
    def _objective_is_a_metric_of_the_task(self) -> Self:
        metrics, objective = spec_of(self.task).metrics, self.objective
        if objective.metric not in metrics:
            unknown = f"the trainer does not measure this; choose one of {', '.join(metrics)}"
            raise_if_any([Fault(("objective", "metric"), "unknown_metric", unknown)])
        if objective.direction != (better := metrics[objective.metric].direction):
            contradicted = f"for {objective.metric} the better direction is {better}; write {better}"
            raise_if_any([Fault(("objective", "direction"), "direction_contradicts_metric", contradicted)])
        return self

    @model_validator(mode="after")
    def _what_confirms_was_never_seen(self) -> Self:
        if self.confirm is not None and self.data.test == 0 and self.data.split != "given":
            examples = f"{spec_of(self.task).example}s"
            untouched = (
                f"confirm scores the winners on {examples} that no trial has seen, and there are none; set data.test, say to 0.2, "
                "or write data.split: given if the data has a test part of its own"
            )
            raise_if_any([Fault(("data", "test"), "nothing_to_confirm_on", untouched)])
        return self

    def config_for(self, params: Params, number: int, round: int | None = None) -> TrainConfig:
        """The only bridge from search to training. The seed follows from the study's and the trial's number, the order from the study's.

        In a round of the confirmation both follow from the study's seed and the round: all that are compared have them in common.
        """
        seeds: dict[str, Any] = {"seed": self.seed_of(number), "order_seed": self.order_seed}
        values = {**seeds, **self.fixed, **params} if round is None else {**self.fixed, **params, **self.seeds_of(round)}
        return TrainConfig.of_task(self.task)(task=self.task, data=self.data, model=self.model, **values)

    def seeds_of(self, round: int) -> dict[str, int]:
        """Of a round of the confirmation, counted from 1: no trial of the search has had them."""
        return {name: self._drawn(f"{name} of round {round}") for name in ("seed", "order_seed")}

    @property
    def order_seed(self) -> int:
        """The seed of the order of the training examples, the same for all trials unless the study fixes it otherwise."""
        return self.sampler.seed

    def demand(self, created: int) -> Mapping[int, float]:
        """By number of frozen stages, the epochs that the study trains from trial `created` on, by what its space says and budget allows.

        Empty without weights: each trial then has frozen stages of its own.
        """
        if not self.model.pretrained:
            return {}
        trials = TRIALS_WITHOUT_BOUND if self.budget.trials is None else max(1, self.budget.trials - created)
        return epochs_by_depth(self.search_space, self.fixed, self.hyperparameters, trials)

    def demand_of_repeats(self, params: Params, round: int) -> Mapping[int, float]:
        """The same in the confirmation, from that round on, for the configuration's own number of frozen stages."""
        if not self.model.pretrained or self.confirm is None:
            return {}
        config = self.config_for(params, 0, round)
        return {config.frozen_layers: (self.confirm.seeds - round + 1) * config.epochs} if config.frozen_layers else {}

    def seed_of(self, number: int) -> int:
        """A seed for the trial of that number: below 2^31, equal for equal studies."""
        return self._drawn(str(number))

    def _drawn(self, what: str) -> int:
        digest = hashlib.sha256(f"{self.sampler.seed}/{what}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    def extremes(self, name: str) -> tuple[tuple[Path, Any], ...]:
        """The values of a hyperparameter that decide whether all its values fit, each with its place in the document.

        Every choice of a categorical one; both ends of a range and the first step above its low end; the one fixed value.
        """
        match self.search_space.root.get(name):
            case None:
                default = self.hyperparameters.model_fields[name].default
                return ((("fixed", name), self.fixed.get(name, default)),)
            case Categorical(choices=choices):
                return tuple((("search_space", name, "choices", place), choice) for place, choice in enumerate(choices))
            case Int() as varied:
                second = min(varied.low + (varied.step or 1), varied.top)
                ends = {"low": varied.low, "step": second, "high": varied.top}
                return tuple((("search_space", name, end), value) for end, value in ends.items())
            case Float() as varied:
                return (("search_space", name, "low"), varied.low), (("search_space", name, "high"), varied.high)

    def largest(self, name: str) -> Any:
        """The greatest value that a numeric hyperparameter can take."""
        return max(value for _, value in self.extremes(name))

    @property
    def epochs(self) -> int:
        """The most epochs that a trial can have."""
        return int(self.largest("epochs"))

    @property
    def covered_configurations(self) -> int | None:
        """How many configurations the search space has, when the budget is enough for all of them; None when it is not.

        The study then ends after them, whatever its sampler.
        """
        count = self.search_space.distinct
        return None if count is None or count > min(self.budget.max_trials, MOST_COVERED) else count

    @property
    def hyperparameters(self) -> type[Hyperparameters]:
        """What the study may vary or fix."""
        return spec_of(self.task).Hyperparameters

    def check_config(self, *, smallest: bool = False) -> TrainConfig:
        """The config to check data and weights with: the largest examples, and the most frozen stages, which are the easiest to train.

        `smallest` is for a machine without the memory for the largest ones.
        """
        params = {"frozen_layers": self.largest("frozen_layers")}
        if (size := spec_of(self.task).size) is not None:
            sizes = [value for _, value in self.extremes(size)]
            params[size] = min(sizes) if smallest else max(sizes)
        return self.config_for(params, 0)

    def check_batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes of which at least one must be trainable: both ends of a range and its second value, or every choice; sorted."""
        return tuple(sorted({int(value) for _, value in self.extremes("batch_size")}))
