"""Which trials of a study may train in one pass over the data, and how many of them."""

from collections.abc import Hashable
from functools import lru_cache

from search_spaces import Params
from service.domain.expected_epochs import TRIALS_WITHOUT_BOUND
from service.domain.samplers import CmaEs, Gp, Grid, Nsga2, Qmc, Random, Sampler, Tpe
from service.domain.spec import StudySpec
from trainer.configuration import DatasetInfo
from trainer.tasks.capabilities import HeadsTogether
from trainer.tasks.registry import spec_of

MOST_LANES = 256
FEWEST_LEARNING_LANES = 4  # of a sampler that learns, however small the budget
LEARNING_SHARE = 8  # of the budget's trials one in so many may be suggested without knowing the others' results
BYTES_A_PARAMETER = 4 * 4  # float32: value, gradient, two moments

SharedKey = tuple[Hashable, ...]


def learns(sampler: Sampler) -> bool:
    """Whether suggestions follow from earlier results; where not, the suggestion for a number is the same whenever it is asked for."""
    match sampler:
        case Random() | Grid() | Qmc():
            return False
        case Tpe() | Gp() | CmaEs() | Nsga2():
            return True


def shared_key(spec: StudySpec, params: Params, round: int | None = None) -> SharedKey | None:
    """What trials of the study have in common that may train in one pass; None when the trial trains alone.

    Those of one round of the confirmation see the examples in the same order, and no others do.
    """
    if spec.limits.lanes == 1 or not _model_has_lanes(spec):
        return None
    values = {**_defaults(spec.task), "order_seed": spec.order_seed, **spec.fixed, **params}
    if round is not None:
        values |= spec.seeds_of(round)
    if values["frozen_layers"] != _stages_of(spec.task, spec.model.name):
        return None
    return tuple(values[name] for name in _together(spec.task).shared)


def may_share(spec: StudySpec) -> bool:
    """Whether some trial of the space has a shared key."""
    if spec.limits.lanes == 1 or not _model_has_lanes(spec):
        return False
    stages = _stages_of(spec.task, spec.model.name)
    return any(value == stages for _, value in spec.extremes("frozen_layers"))


def lane_budget(spec: StudySpec, info: DatasetInfo, memory: int, created: int) -> int:
    """The most trials that a worker takes into one pass, at least one, with `memory` bytes for their heads and the optimizer's state.

    `created` trials were suggested already: those that a sampler draws before it learns may all go together.
    """
    fitting = max(1, memory // (BYTES_A_PARAMETER * (_together(spec.task).head_parameters(spec.model.name, info) or 1)))
    if spec.limits.lanes is not None:
        return min(fitting, spec.limits.lanes)
    return min(fitting, MOST_LANES, _unknowing(spec, created))


def _unknowing(spec: StudySpec, created: int) -> int:
    """How many trials the sampler may suggest without knowing the results of one another."""
    if not learns(spec.sampler):
        return MOST_LANES
    trials = TRIALS_WITHOUT_BOUND if spec.budget.trials is None else spec.budget.trials
    return max(FEWEST_LEARNING_LANES, trials // LEARNING_SHARE, _startup(spec.sampler) - created)


def _startup(sampler: Sampler) -> int:
    """How many trials are drawn before any result counts."""
    match sampler:
        case Tpe() | Gp() | CmaEs():
            return sampler.n_startup_trials
        case Nsga2():
            return sampler.population_size
        case Random() | Grid() | Qmc():
            return 0


def _model_has_lanes(spec: StudySpec) -> bool:
    return spec.model.pretrained and _lanes_of(spec.task, spec.model.name)


def _together(task: str) -> HeadsTogether:
    """Of a task whose models have lanes."""
    if not isinstance(found := spec_of(task), HeadsTogether):
        raise TypeError(f"the heads of {task} do not train together")
    return found


@lru_cache(maxsize=256)
def _lanes_of(task: str, model: str) -> bool:
    found = spec_of(task)
    return isinstance(found, HeadsTogether) and found.trains_together(model)


@lru_cache(maxsize=256)
def _stages_of(task: str, model: str) -> int:
    return spec_of(task).describe(model).stages


@lru_cache(maxsize=16)
def _defaults(task: str) -> dict[str, Hashable]:
    fields = spec_of(task).Hyperparameters.model_fields
    return {name: fields[name].default for name in _together(task).shared}
