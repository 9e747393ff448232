"""Select the trials of a study whose heads may be trained together, and bound their number."""

from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

from search_spaces import Params
from service.domain.expected_epochs import TRIALS_WITHOUT_BOUND
from service.domain.samplers import CmaEs, Gp, Grid, Nsga2, Qmc, Random, Sampler, Tpe
from service.domain.spec import StudySpec, TrainingStudy
from trainer.configuration import DatasetInfo
from trainer.tasks.base import ModelInfo
from trainer.tasks.capabilities import HeadsTogether, methods_of
from trainer.tasks.registry import spec_of

MOST_LANES = 256
FEWEST_LEARNING_LANES = 4  # for adaptive samplers, however small the budget
LEARNING_SHARE = 8  # an adaptive sampler may suggest 1/8 of the budget's trials before it receives their results
BYTES_A_PARAMETER = 4 * 4  # float32: value, gradient, two moments

SharedKey = tuple[Hashable, ...]


def learns(sampler: Sampler) -> bool:
    """Whether the sampler is adaptive. A sampler that is not gives the same suggestion for a trial number at any time."""
    match sampler:
        case Random() | Grid() | Qmc():
            return False
        case Tpe() | Gp() | CmaEs() | Nsga2():
            return True


def shared_key(spec: StudySpec, info: DatasetInfo | None, params: Params, round: int | None = None) -> SharedKey | None:
    """The key that is equal for trials of the study whose heads may be trained together; None for a trial that trains alone.

    The info is that of the check, which describes a model that the server cannot read. `round` is the confirmation round. Trials of one
    round share their seeds, so they also share the order of the examples; the key holds `order_seed`, which separates them from the
    trials of other rounds and of the search.
    """
    if spec.limits.lanes == 1 or not isinstance(spec, TrainingStudy) or not isinstance(spec_of(spec.task), HeadsTogether):
        return None
    values: dict[str, Any] = {**_defaults(spec.task), "order_seed": spec.order_seed, **spec.fixed, **params}
    if (model := _with_heads_together(spec, info, values)) is None:
        return None
    if round is not None:
        values |= spec.seeds_of(round)
    if methods_of(spec_of(spec.task)).frozen_stages(model, values) != model.stages:
        return None
    return tuple(values[name] for name in _capability(spec.task).shared)


def may_share(spec: TrainingStudy, info: DatasetInfo | None) -> bool:
    """Whether the search space contains trials that have a shared key."""
    if spec.limits.lanes == 1 or (model := _with_heads_together(spec, info, spec.fixed)) is None:
        return False
    return any(value == model.stages for _, value in spec.extremes("frozen_layers"))


def lane_budget(spec: TrainingStudy, info: DatasetInfo, memory: int, created: int) -> int:
    """The most trials of a study for which `may_share` holds that a worker trains together, at least one.

    There are `memory` bytes for their heads and the optimizer's state.

    `created` is the number of trials suggested so far. An adaptive sampler draws its startup trials independently of results, so all
    remaining startup trials may be trained together.
    """
    if (model := spec.described(info)) is None:
        return 1
    fitting = max(1, memory // (BYTES_A_PARAMETER * (_capability(spec.task).head_parameters(model, info) or 1)))
    if spec.limits.lanes is not None:
        return min(fitting, spec.limits.lanes)
    return min(fitting, MOST_LANES, _independent_suggestions(spec, created))


def _independent_suggestions(spec: StudySpec, created: int) -> int:
    """How many trials the sampler may suggest before it receives their results.

    More heads trained together are faster, but each suggestion of an adaptive sampler then rests on fewer results.
    """
    if not learns(spec.sampler):
        return MOST_LANES
    trials = TRIALS_WITHOUT_BOUND if spec.budget.trials is None else spec.budget.trials
    return max(FEWEST_LEARNING_LANES, trials // LEARNING_SHARE, _startup(spec.sampler) - created)


def _startup(sampler: Sampler) -> int:
    """The number of trials that the sampler draws independently of results."""
    match sampler:
        case Tpe() | Gp() | CmaEs():
            return sampler.n_startup_trials
        case Nsga2():
            return sampler.population_size
        case Random() | Grid() | Qmc():
            return 0


def _with_heads_together(spec: TrainingStudy, info: DatasetInfo | None, values: Mapping[str, Any]) -> ModelInfo | None:
    """The study's model if its heads can be trained together with these values, else None."""
    if not spec.model.pretrained or not isinstance(found := spec_of(spec.task), HeadsTogether):
        return None
    model = spec.described(info)
    return model if model is not None and found.trains_together(model, values) else None


def _capability(task: str) -> HeadsTogether:
    """The task's capability. Raises TypeError for a task whose heads do not train together."""
    if not isinstance(found := spec_of(task), HeadsTogether):
        raise TypeError(f"the heads of {task} do not train together")
    return found


@lru_cache(maxsize=16)
def _defaults(task: str) -> dict[str, Hashable]:
    found, fields = spec_of(task), spec_of(task).Hyperparameters.model_fields
    return {name: fields[name].default for name in (*_capability(task).shared, *methods_of(found).freezing)}
