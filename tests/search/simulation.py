"""A study played through in memory: rows as the store would give them, results as an objective would."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from search_spaces import Params, SearchSpace
from service.domain.records import Trial
from service.domain.samplers import NoPruner, Tpe
from service.domain.spec import Budget, Objective, StudySpec, TrainingStudy
from service.domain.states import TrialState, ValueKind
from service.search.study import Decision, StudySearch, Suggestion
from trainer.protocol import FailureReason
from trainer.tasks.images.config import ImageData, ImageModel

EXAMPLE: dict[str, Any] = {
    "lr": {"type": "float", "low": 1.0e-5, "high": 0.1, "log": True},
    "batch_size": {"type": "categorical", "choices": [16, 32, 64]},
    "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
    "frozen_layers": {"type": "int", "low": 0, "high": 9},
    "momentum": {"type": "float", "low": 0.0, "high": 0.99, "when": {"optimizer": ["sgd", "rmsprop"]}},
}


def study_spec(
    space: Mapping[str, Any] = EXAMPLE, sampler: Any = None, pruner: Any = None, metric: str = "accuracy", epochs: int = 8
) -> StudySpec:
    return TrainingStudy(
        name="a study",
        task="image_classification",
        data=ImageData(path="data"),
        model=ImageModel(name="squeezenet1_1"),
        search_space=SearchSpace.model_validate(space),
        fixed={"epochs": epochs},
        objective=Objective(metric=metric, direction="minimize" if metric == "loss" else "maximize"),
        sampler=sampler or Tpe(),
        pruner=pruner or NoPruner(),
        budget=Budget(trials=10_000),
    )


def trial_row(number: int, params: Params, state: TrialState = TrialState.RUNNING, **changes: Any) -> Trial:
    value = changes.get("value")
    kind = ValueKind.MISSING if value is None else ValueKind.FINITE
    plain: dict[str, Any] = {
        "id": 1000 + number,
        "study": "s",
        "value": None,
        "value_kind": kind,
        "metrics": {},
        "step": 0,
        "attempt": 1,
        "reason": None,
        "detail": None,
        "worker": "w",
        "duplicate_of": None,
        "source": "sampler",
        "changed": 0,
        "checkpoints": (),
        "queued_at": 0.0,
        "started_at": None,
        "finished_at": None,
    }
    return Trial(number=number, params=params, state=state, **{**plain, **changes})


@dataclass(frozen=True)
class Ending:
    """How a trial ends."""

    state: TrialState
    value: float | None = None
    reason: FailureReason | None = None
    curve: Mapping[int, float] = field(default_factory=dict)


@dataclass
class Simulation:
    """Rows and reports, and a search that has grown with them."""

    spec: StudySpec
    trials: dict[int, Trial] = field(default_factory=dict)
    reports: dict[int, Mapping[int, float]] = field(default_factory=dict)
    seq: int = 0

    def __post_init__(self) -> None:
        self.grown = StudySearch(self.spec)

    def put(self, trial: Trial, curve: Mapping[int, float] | None = None) -> None:
        self.seq += 1
        self.trials[trial.number] = trial
        self.reports[trial.number] = curve or {}
        self.grown.absorb(self.seq, [trial], [(trial.number, step, value) for step, value in (curve or {}).items()])

    def start(self, count: int = 1) -> list[Suggestion]:
        first = len(self.trials)
        suggestions = self.grown.suggest(first, count)
        for number, suggestion in enumerate(suggestions, start=first):
            self.put(trial_row(number, suggestion.params, memory=suggestion.memory))
        return suggestions

    def end(self, number: int, ending: Ending) -> None:
        trial = replace(
            self.trials[number],
            state=ending.state,
            value=ending.value,
            value_kind=ValueKind.MISSING if ending.value is None else ValueKind.FINITE,
            reason=ending.reason,
            step=max(ending.curve, default=0),
        )
        self.put(trial, ending.curve)

    def run(self, count: int, objective: Callable[[Params], Ending]) -> None:
        for _ in range(count):
            [suggestion] = self.start()
            self.end(len(self.trials) - 1, objective(suggestion.params))

    def rebuilt(self) -> StudySearch:
        """A search made from the rows alone, as after a restart; last rows first, to show that their order is nothing."""
        search = StudySearch(self.spec)
        values = [(number, step, value) for number, curve in self.reports.items() for step, value in curve.items()]
        search.absorb(self.seq, reversed(self.trials.values()), reversed(values))
        return search


def decide(search: StudySearch, number: int, values: Mapping[int, float]) -> Decision:
    """The decision on one trial."""
    return search.decide_all({number: values})[number]


def numeric(params: Params, name: str) -> float:
    """The value of a parameter that is a number."""
    value = params[name]
    assert isinstance(value, int | float)
    return float(value)


def complete(value: float, curve: Mapping[int, float] | None = None) -> Ending:
    return Ending(TrialState.COMPLETE, value, curve=curve or {1: value})


def failed(reason: FailureReason) -> Ending:
    return Ending(TrialState.FAILED, reason=reason)
