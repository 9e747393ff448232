"""Faults of a study's sections against each other, against the trainer's hyperparameters and against the model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from search_spaces import Fault, Path
from service.domain.fault_messages import faults_of
from service.domain.samplers import Grid
from service.domain.spec import StudySpec, TrainingStudy
from trainer.configuration import ALL_STAGES, DatasetInfo, Hyperparameters
from trainer.tasks.base import ModelInfo
from trainer.tasks.capabilities import methods_of
from trainer.tasks.registry import spec_of


def space_faults(spec: TrainingStudy) -> Iterator[Fault]:
    """Faults of range ends and choices that the trainer does not accept."""
    for name in spec.search_space.root:
        for place, value in spec.extremes(name):
            for fault in _hyperparameter_faults(spec.hyperparameters, {name: value}):
                yield Fault(place, fault.code, fault.message)


def twice_faults(spec: StudySpec) -> Iterator[Fault]:
    """Faults of parameters that vary and are fixed."""
    for name in spec.search_space.root:
        if name in spec.fixed:
            yield Fault(("fixed", name), "fixed_and_varied", "the search space varies this parameter too; remove it from one of the two")


def fixed_faults(spec: TrainingStudy) -> Iterator[Fault]:
    for fault in _hyperparameter_faults(spec.hyperparameters, spec.fixed):
        yield fault.below(("fixed",))


def condition_faults(spec: TrainingStudy) -> Iterator[Fault]:
    """Faults of hyperparameters that do not apply with the values of others.

    What varies must apply wherever it is active. A fixed value must apply in some trial: in the others configs have the default. Values of
    earlier versions (`frozen_layers`) that equal the default are accepted everywhere.
    """
    space, fields = spec.search_space.root, spec.hyperparameters.model_fields
    methods = methods_of(spec_of(spec.task))
    for name, needed in methods.conditions.items():
        for other, accepted in needed.items():
            if (varied := space.get(name)) is not None:
                taken = _values_where_active(spec, name, other)
            elif name in spec.fixed and (name in methods.settings or spec.fixed[name] != fields[name].default):
                taken = list(spec.values_of(other))
            else:
                continue
            unfit = [value for value in taken if value not in accepted]
            listed, written = _listed(accepted), ", ".join(str(value) for value in accepted)
            if varied is not None and unfit:
                where = ("search_space", name, "when", other) if other in varied.when else ("search_space", name)
                remedy = (
                    f"add when: {{{other}: [{written}]}}" if other in space else f"remove it, or write fixed: {{{other}: {accepted[0]}}}"
                )
                yield Fault(where, "does_not_apply", f"{name} applies only where {other} is {listed}; {remedy}")
            elif varied is None and len(unfit) == len(taken):
                yield Fault(
                    ("fixed", name), "does_not_apply", f"{name} applies only where {other} is {listed}; remove it, or change {other}"
                )


def _values_where_active(spec: TrainingStudy, name: str, other: str) -> list[Any]:
    """The values of `other` in trials in which the parameter `name` of the search space is active."""
    when, found = spec.search_space.root[name].when, list(spec.values_of(other))
    if other in when:
        found = [value for value in found if value in when[other]]
    for parent in when.keys() - {other}:
        found = [value for value in found if value in _values_where_active(spec, parent, other)]
    return found


def _listed(values: Iterable[Any]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} or {last}" if first else last


def _hyperparameter_faults(hyperparameters: type[Hyperparameters], values: Mapping[str, Any]) -> Iterator[Fault]:
    try:
        hyperparameters.model_validate(dict(values), strict=True)
    except ValidationError as error:
        for item in error.errors():
            yield from faults_of(item)


def with_all_stages(spec: StudySpec, facts: DatasetInfo) -> StudySpec:
    """The spec of a study whose fixed values freeze all stages of a model that the server could not read, with their number."""
    if (model := facts.described_model) is None or spec.fixed.get("frozen_layers") != ALL_STAGES:
        return spec
    return spec.model_copy(update={"fixed": {**spec.fixed, "frozen_layers": model.stages}})


def facts_faults(spec: StudySpec, facts: DatasetInfo) -> Iterator[Fault]:
    """Faults of the study that the facts of the check show: a metric that runs on this data do not record, and values that do not fit a
    model which the server could not read.
    """
    if (fault := unrecorded(spec, facts, spec.objective.metric)) is not None:
        yield fault.below(("objective",))
    if (model := facts.described_model) is not None and isinstance(spec, TrainingStudy):
        yield from stage_faults(spec, model)
        yield from fit_faults(spec, model)


def unrecorded(spec: StudySpec, facts: DatasetInfo, metric: str) -> Fault | None:
    """The fault of a metric that runs of the study do not record on this data; None if they do."""
    missing = {**(facts.unrecorded("test") if spec.confirm is not None else {}), **facts.unrecorded("validation")}
    if metric not in missing:
        return None
    others = ", ".join(name for name in spec_of(spec.task).metrics if name not in missing)
    return Fault(("metric",), "not_recorded", f"{metric} {missing[metric]}; choose one of {others}")


def stage_faults(spec: TrainingStudy, model: ModelInfo) -> Iterator[Fault]:
    stages = model.stages
    frozen_random = dict[Fault, None]()
    for place, most in _whole_extremes(spec, "frozen_layers"):
        if most > stages:
            yield too_many_stages(place, stages)
        elif most > 0 and not spec.model.pretrained:
            frozen_random[_frozen_random(place)] = None
    if not spec.model.pretrained:
        defaults = {name: field.default for name, field in spec.hyperparameters.model_fields.items()}
        methods = methods_of(spec_of(spec.task))
        for name in methods.freezing:
            for place, value in spec.extremes(name) if name != "frozen_layers" else ():
                if methods.frozen_stages(model, {**defaults, name: value}) > 0:
                    frozen_random[_random_base(place, name, value)] = None
    yield from frozen_random


def _random_base(place: Path, name: str, value: object) -> Fault:
    """The fault of a method that keeps the initial values of some stages, if these are random."""
    message = f"model.weights is random, and with {name} {value} stages keep their random values; "
    return Fault(place, "frozen_random", message + f"choose another {name}, or name pretrained weights in model.weights")


def _frozen_random(place: tuple[str | int, ...]) -> Fault:
    """The fault of frozen stages with random initial values.

    Its path is that of the parameter for a range: an open range was closed before, so the document may have no `high`.
    """
    remedy = "remove it" if place[0] == "fixed" else "remove it here and write fixed: {frozen_layers: 0}"
    return Fault(
        place if "choices" in place else place[:2],
        "frozen_random",
        f"model.weights is random, and frozen stages keep their random values; {remedy}, or name pretrained weights in model.weights",
    )


def too_many_stages(place: tuple[str | int, ...], stages: int) -> Fault:
    return Fault(place, "too_many_stages", f"the model has {stages} stages to freeze; lower this to {stages} or less")


def fit_faults(spec: TrainingStudy, model: ModelInfo) -> Iterator[Fault]:
    """Faults of values of the task's own hyperparameters with which the model cannot be trained."""
    for name in [name for name in spec.hyperparameters.model_fields if name not in Hyperparameters.model_fields]:
        for place, value in spec.extremes(name):
            if (fault := model.fault_of(name, value)) is not None:
                yield Fault(place, *fault)


def _whole_extremes(spec: TrainingStudy, name: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """The extremes that are whole numbers. Other values have a fault of their own."""
    for place, value in spec.extremes(name):
        if isinstance(value, int):
            yield place, value


def grid_faults(spec: StudySpec) -> Iterator[Fault]:
    if not isinstance(spec.sampler, Grid):
        return
    if (size := spec.search_space.size) is None:
        yield Fault(("sampler", "name"), "endless_grid", "a grid needs a step on each float range; add steps, or choose another sampler")
    elif size > spec.budget.max_trials:
        yield Fault(("budget", "trials"), "grid_above_budget", f"the grid has {size} combinations; raise the budget or coarsen the grid")
