"""The validated specification of a study: search space, objective and budget, and data and model, or a program."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self, cast

from pydantic import ConfigDict, Field, FiniteFloat, StrictInt, create_model, model_validator

from search_spaces import Categorical, Fault, Float, Int, Params, Path, Scalar, SearchSpace, nearest, raise_if_any
from search_spaces.parameters import FrozenModel
from service.domain.expected_epochs import TRIALS_WITHOUT_BOUND, epochs_by_depth
from service.domain.samplers import NoPruner as NoPruner
from service.domain.samplers import Pruner, Sampler, Tpe
from trainer.by_task import ByTask
from trainer.configuration import DataConfig, DatasetInfo, Direction, Frozen, Hyperparameters, ModelConfig, RunConfig, TrainConfig
from trainer.tasks.base import Metric, ModelInfo, TaskSpec, described_model
from trainer.tasks.capabilities import methods_of
from trainer.tasks.registry import spec_of
from trainer.tasks.script.config import ProcessLimits, Program, ScriptConfig, metric_fault

NOT_SEARCHED = frozenset({"seed", "order_seed", "compile"})
MAX_TRIALS = 100_000
MOST_COVERED = 5_000  # the largest space whose configurations are enumerated, so that none is tried twice
MAX_NUMBER = 2 * MAX_TRIALS  # of a trial: confirmation trials are numbered after those of the search


def searchable(task: TaskSpec) -> set[str]:
    """The hyperparameters that a search space may vary."""
    return set(task.Hyperparameters.model_fields) - NOT_SEARCHED


class Objective(FrozenModel):
    """The validation metric that the study optimises, measured after the last epoch."""

    metric: str = Field(max_length=64)
    direction: Direction
    range: tuple[FiniteFloat, FiniteFloat] | None = Field(
        default=None,
        exclude_if=lambda range: range is None,
        description="lowest and highest possible value, for a metric that the task does not define",
    )

    def measure(self, task: TaskSpec) -> Metric:
        """The task's metric, or one with the range of the objective."""
        low, high = self.range or (-math.inf, math.inf)
        return task.metrics.get(self.metric) or Metric(self.direction, low, high)


class Budget(FrozenModel):
    """The end of the search: after a number of trials, or a number of hours after the first claim."""

    trials: StrictInt | None = Field(default=None, ge=1, le=MAX_TRIALS)
    hours: FiniteFloat | None = Field(default=None, gt=0, le=100_000)
    parallel: StrictInt | None = Field(default=None, ge=1, le=10_000, description="most trials that run at the same time")

    @model_validator(mode="after")
    def _it_ends(self) -> Self:
        if self.trials is None and self.hours is None:
            raise_if_any([Fault((), "endless", "a budget needs trials, hours, or both")])
        return self

    @property
    def max_trials(self) -> int:
        """The bound on trials; MAX_TRIALS where only hours are given."""
        return MAX_TRIALS if self.trials is None else self.trials


class Limits(FrozenModel):
    """Limits of a trial, and of failures in the study."""

    attempts: StrictInt = Field(
        default=3, ge=1, le=100, description="attempts at a trial whose worker is lost or whose process crashes, before it fails"
    )
    failures: StrictInt | None = Field(
        default=20,
        ge=1,
        le=100_000,
        description="the study fails after this many failed trials in a row; lost trials do not count; null: no limit",
    )
    minutes: FiniteFloat | None = Field(default=None, gt=0, le=1_000_000, description="a longer trial fails with the reason timeout")
    checkpoint_seconds: FiniteFloat = Field(default=60.0, ge=0, le=86_400)
    lanes: StrictInt | None = Field(
        default=None, ge=1, le=1_024, description="most trials whose heads are trained together; 1: each trial alone; null: automatic"
    )


class Confirm(FrozenModel):
    """Confirmation after the search: trains the best trials and the baseline again with fresh seeds, and scores them on test examples."""

    top: StrictInt = Field(default=3, ge=1, le=20, description="number of configurations: the best of the search by their validation value")
    seeds: StrictInt = Field(default=5, ge=2, le=100, description="most runs of each configuration; clearly worse ones are stopped earlier")


class StudySpec(ByTask):
    """The specification of one study. `service.domain.parsing.parse_study` makes the checks that this model does not.

    Its models are TrainingStudy for tasks with a torch half, and ProgramStudy for those that name a runner instead.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    name: Annotated[str, Field(min_length=1, max_length=128)]
    task: str
    preset: str | None = Field(default=None, max_length=64, description="name of a shipped search space that search_space extends")
    search_space: SearchSpace
    fixed: Mapping[str, Scalar] = Field(default_factory=dict, description="hyperparameters that do not vary")
    baseline: Mapping[str, Scalar] | None = Field(default=None, description="parameters of trial 0; those left out take their default")
    objective: Objective
    sampler: Sampler = Tpe()
    pruner: Pruner = NoPruner()
    budget: Budget
    limits: Limits = Limits()
    confirm: Confirm | None = Field(default=None, description="null: no confirmation")

    @classmethod
    def of_task(cls, task: str) -> type[Self]:
        """The model with the task's own sections. Raises ValueError for a task that is not installed."""
        if task not in cls._models:
            config = RunConfig.of_task(task)
            own: dict[str, Any] = {"task": (Literal[task], task)}
            if trains := issubclass(config, TrainConfig):
                own |= {name: (config.model_fields[name].annotation, ...) for name in ("data", "model")}
            base = TrainingStudy if trains else ProgramStudy
            create_model(StudySpec.__name__, __base__=base, __module__=__name__, **own)
        return super().of_task(task)

    def config_for(self, params: Params, number: int, round: int | None = None) -> RunConfig:
        """The config of trial `number` with these parameters. No other code makes configs from parameters.

        Its seeds are derived from the study's seed and the trial's number; in a confirmation round, from the study's seed and the round.
        """
        raise NotImplementedError

    def check_config(self, *, smallest: bool = False) -> RunConfig:
        """The config for the check before the first trial. `smallest`: for a machine without the memory for the largest examples."""
        raise NotImplementedError

    def check_batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of which at least one must be trainable, sorted."""
        return ()

    def last_step_of(self, params: Params) -> int:
        """The step after which a trial with these parameters ends; 1 if it is not known."""
        raise NotImplementedError

    @property
    def last_step(self) -> int:
        """The last step of the longest trial; 1 if it is not known."""
        raise NotImplementedError

    @property
    def measure(self) -> Metric:
        """The objective's range, unit and resolution."""
        return self.objective.measure(spec_of(self.task))

    @property
    def needs_test_part(self) -> bool:
        """Whether the data must have a test part of its own."""
        return False

    def with_precision(self) -> Self:
        """The spec of a new study, with the precision that it has if the document gives none."""
        return self

    def seeds_of(self, round: int) -> dict[str, int]:
        """The seeds of a confirmation round, counted from 1. They differ from those of the search's trials."""
        return {name: self._derived(f"{name} of round {round}") for name in ("seed", "order_seed")}

    def demand(self, created: int, info: DatasetInfo | None = None) -> Mapping[int, float]:
        """The epochs that the study will train from trial number `created` on, by number of frozen stages: an estimate.

        The info of the check describes a model that the server cannot read.
        """
        return {}

    def demand_of_repeats(self, params: Params, round: int, info: DatasetInfo | None = None) -> Mapping[int, float]:
        """The epochs that the confirmation will train from `round` on with the configuration's number of frozen stages, by that number."""
        return {}

    def seed_of(self, number: int) -> int:
        """The seed of a trial: below 2^31, and a function of the study's seed and the number."""
        return self._derived(str(number))

    def _derived(self, purpose: str) -> int:
        digest = hashlib.sha256(f"{self.sampler.seed}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    @property
    def covered_configurations(self) -> int | None:
        """The number of configurations of the search space, if the budget covers all of them; else None.

        A study whose space is covered ends after these trials with any sampler.
        """
        count = self.search_space.distinct
        return None if count is None or count > min(self.budget.max_trials, MOST_COVERED) else count


class _TrainingSections(Frozen):
    """The first fields of a TrainingStudy, in the order of documents."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    task: str
    data: DataConfig
    model: ModelConfig


class TrainingStudy(StudySpec, _TrainingSections):
    """A study of a task with a torch half: data, model, and hyperparameters that the task knows."""

    @model_validator(mode="after")
    def _objective_is_a_metric_of_the_task(self) -> Self:
        metrics, objective = spec_of(self.task).metrics, self.objective
        if objective.range is not None:
            raise_if_any([Fault(("objective", "range"), "known_metric", "the task defines the range of its metrics; remove this")])
        if objective.metric not in metrics:
            message = f"the task has no such metric; choose one of {', '.join(metrics)}"
            raise_if_any([Fault(("objective", "metric"), "unknown_metric", message)])
        if objective.direction != (better := metrics[objective.metric].direction):
            message = f"the better direction of {objective.metric} is {better}; write {better}"
            raise_if_any([Fault(("objective", "direction"), "direction_contradicts_metric", message)])
        return self

    @model_validator(mode="after")
    def _confirmation_has_test_examples(self) -> Self:
        if self.confirm is not None and not self.data.has_test:
            examples = f"{spec_of(self.task).example}s"
            message = (
                f"confirm scores configurations on test {examples} that no trial has used, and there are none; set data.test, such as to "
                "0.2, or write data.split: given if the data has a test part of its own"
            )
            raise_if_any([Fault(("data", "test"), "nothing_to_confirm_on", message)])
        return self

    def config_for(self, params: Params, number: int, round: int | None = None) -> TrainConfig:
        """See `StudySpec.config_for`. `order_seed` is the study's, except in a confirmation round."""
        # The compared configurations share the seeds of a round, so that their scores can be compared in pairs. For the same reason the
        # seeds of a round override fixed ones.
        seeds: dict[str, Any] = {"seed": self.seed_of(number), "order_seed": self.order_seed}
        values = {**seeds, **self.fixed, **params} if round is None else {**self.fixed, **params, **self.seeds_of(round)}
        return TrainConfig.of_task(self.task)(task=self.task, data=self.data, model=self.model, **self.applicable(values))

    def applicable(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The hyperparameters that apply together: one whose condition does not hold keeps its default in a config."""
        fields, conditions = self.hyperparameters.model_fields, methods_of(spec_of(self.task)).conditions

        def holds(name: str) -> bool:
            needed = conditions.get(name, {})
            return all(values.get(other, fields[other].default) in accepted for other, accepted in needed.items())

        return {name: value for name, value in values.items() if holds(name)}

    def described(self, info: DatasetInfo | None) -> ModelInfo | None:
        """The description of the model: the server's, or else the one that the check found; None if there is neither."""
        return described_model(spec_of(self.task), self.model.name, info)

    def with_precision(self) -> Self:
        """The spec of a new study: `precision: auto` is fixed unless the document gives a precision.

        The default of a config that gives none is float32, as it was before: stored studies and exported files keep their meaning.
        """
        if "precision" in self.fixed or "precision" in self.search_space.root:
            return self
        return self.model_copy(update={"fixed": {**self.fixed, "precision": "auto"}})

    @property
    def order_seed(self) -> int:
        """Shuffle seed of the training examples, the same for all trials unless the study fixes another."""
        return self.sampler.seed

    def demand(self, created: int, info: DatasetInfo | None = None) -> Mapping[int, float]:
        """The epochs that the study will train from trial number `created` on, by number of frozen stages: an estimate.

        Empty without pretrained weights: the frozen stages of each trial then have their own random values.
        """
        if not self.model.pretrained:
            return {}
        trials = TRIALS_WITHOUT_BOUND if self.budget.trials is None else max(1, self.budget.trials - created)
        methods = methods_of(spec_of(self.task))
        frozen = partial(methods.frozen_stages, self.described(info))
        return epochs_by_depth(self.search_space, self.fixed, self.hyperparameters, trials, frozen, methods.freezing)

    def demand_of_repeats(self, params: Params, round: int, info: DatasetInfo | None = None) -> Mapping[int, float]:
        """The epochs that the confirmation will train from `round` on with the configuration's number of frozen stages, by that number."""
        if not self.model.pretrained or self.confirm is None:
            return {}
        config = self.config_for(params, 0, round)
        frozen = methods_of(spec_of(self.task)).frozen_stages(self.described(info), dict(config))
        return {frozen: (self.confirm.seeds - round + 1) * config.epochs} if frozen else {}

    def extremes(self, name: str) -> tuple[tuple[Path, Any], ...]:
        """The values of a hyperparameter to validate on behalf of all its values, each with its path in the document.

        Every choice of a categorical parameter; both ends of a range, and for ints the second value; else the fixed or default value.
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

    def values_of(self, name: str) -> tuple[Any, ...]:
        """The values that a categorical hyperparameter takes in some trial; the extremes of a number."""
        values = [value for _, value in self.extremes(name)]
        if (varied := self.search_space.root.get(name)) is not None and varied.when:
            values.append(self.fixed.get(name, self.hyperparameters.model_fields[name].default))
        return tuple(dict.fromkeys(values))

    def largest(self, name: str) -> Any:
        """The largest value of a numeric hyperparameter."""
        return max(value for _, value in self.extremes(name))

    def last_step_of(self, params: Params) -> int:
        return int(cast(int, {**self.fixed, **params}.get("epochs", self.hyperparameters.model_fields["epochs"].default)))

    @property
    def last_step(self) -> int:
        return int(self.largest("epochs"))

    @property
    def needs_test_part(self) -> bool:
        return self.confirm is not None and self.data.test == 0

    @property
    def hyperparameters(self) -> type[Hyperparameters]:
        """The model of the hyperparameters that the study may vary or fix."""
        return cast(type[Hyperparameters], spec_of(self.task).Hyperparameters)

    def check_config(self, *, smallest: bool = False) -> TrainConfig:
        """The config for the check of data and weights: the largest examples, and the most frozen stages, which are the easiest to train.

        `smallest` takes the smallest examples, for a machine without the memory for the largest.
        """
        params = {"frozen_layers": self.largest("frozen_layers")}
        if (size := spec_of(self.task).size) is not None:
            sizes = [value for _, value in self.extremes(size)]
            params[size] = min(sizes) if smallest else max(sizes)
        return self.config_for(params, 0)

    def check_batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes of which at least one must be trainable, sorted: both ends of a range and its second value, or every choice."""
        return tuple(sorted({int(value) for _, value in self.extremes("batch_size")}))


class ProgramLimits(Limits, ProcessLimits):
    """Limits of a trial and its processes, and of failures in the study."""


class ProgramStudy(StudySpec, Program):
    """A study of a task that names a runner: any parameters, which the program gets, and any metrics, which it reports."""

    limits: ProgramLimits = ProgramLimits()

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        raise_if_any(self._faults())
        return self

    def _faults(self) -> Iterator[Fault]:
        if (reason := metric_fault(self.objective.metric)) is not None:
            yield Fault(("objective", "metric"), "invalid_name", reason)
        if self.objective.range is not None and self.objective.range[0] >= self.objective.range[1]:
            yield Fault(("objective", "range"), "empty_range", "the lowest value comes first; write such as range: [0, 1]")
        if not isinstance(self.pruner, NoPruner) and self.steps is None:
            yield Fault(("steps",), "missing", "a pruner compares trials at the same step; write the last one, such as steps: 10")
        if self.confirm is not None and self.baseline is None:
            message = (
                "confirm compares the best configurations with a baseline; write one with a value for each parameter, such as the "
                "defaults of the program: baseline: {lr: 0.001}"
            )
            yield Fault(("baseline",), "missing", message)

    def config_for(self, params: Params, number: int, round: int | None = None) -> ScriptConfig:
        """See `StudySpec.config_for`."""
        return ScriptConfig(
            **{name: getattr(self, name) for name in Program.model_fields},
            limits=ProcessLimits(**self.limits.model_dump(include=set(ProcessLimits.model_fields))),
            metric=self.objective.metric,
            params={**self.fixed, **params},
            unset=tuple(name for name in self.search_space.root if name not in params),
            trial=number,
            phase="search" if round is None else "confirm",
            seed=self.seed_of(number) if round is None else self.seeds_of(round)["seed"],
        )

    def check_config(self, *, smallest: bool = False) -> ScriptConfig:
        """A config with a value for each parameter, whatever its condition."""
        return self.config_for({name: nearest(one, None) for name, one in self.search_space.root.items()}, 0)

    def last_step_of(self, params: Params) -> int:
        return self.last_step

    @property
    def last_step(self) -> int:
        return self.steps or 1
