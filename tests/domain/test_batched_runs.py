"""Who may share a pass over the data, and how many."""

from typing import Any

import pytest

from service.domain.batched_runs import lane_budget, may_share, shared_key
from service.domain.spec import StudySpec
from tests.narrowed import training
from tests.operations.driving import FACTS, spec_of
from trainer.tasks.images import catalogue

STAGES = len(catalogue.load("resnet18").stages)
GIGABYTE = 10**9
HEAD = 512 * 2 + 2  # of resnet18 with two classes


def lane_spec(**changes: Any) -> StudySpec:
    fixed = {"frozen_layers": STAGES, **changes.pop("fixed", {})}
    return spec_of(**{"model": {"name": "resnet18", "weights": "DEFAULT"}, "fixed": fixed} | changes)


def budget(created: int = 0, memory: int = GIGABYTE, **changes: Any) -> int:
    return lane_budget(training(lane_spec(**changes)), FACTS, memory, created)


def test_head_only_trials_of_one_batch_size_share_a_key_whatever_else_they_differ_in() -> None:
    space = {name: {"type": "int", "low": 1, "high": 64} for name in ("batch_size", "epochs")}
    spec = lane_spec(search_space=space)
    keys = [shared_key(spec, None, {"batch_size": size, "epochs": epochs}) for size, epochs in ((8, 1), (8, 9), (16, 1))]
    assert keys[0] == keys[1] is not None
    assert keys[2] not in (None, keys[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"name": "resnet18"}},
        {"fixed": {"frozen_layers": STAGES - 1}},
        {"limits": {"lanes": 1}},
        {"fixed": {"frozen_layers": 0}},
    ],
    ids=["no weights", "one stage is trained", "lanes are off", "nothing frozen"],
)
def test_a_trial_trains_alone(changes: dict[str, Any]) -> None:
    spec = lane_spec(**changes)
    assert shared_key(spec, None, {"lr": 0.1}) is None
    assert not may_share(training(spec), None)


def test_the_depth_that_a_trial_draws_decides_for_it() -> None:
    space = {"frozen_layers": {"type": "int", "low": 0, "high": STAGES}}
    spec = spec_of(model={"name": "resnet18", "weights": "DEFAULT"}, search_space=space)
    assert may_share(training(spec), None)
    assert shared_key(spec, None, {"frozen_layers": STAGES}) is not None
    assert shared_key(spec, None, {"frozen_layers": STAGES - 1}) is None


def test_memory_bounds_the_lanes_but_one_always_fits() -> None:
    random: dict[str, Any] = {"sampler": {"name": "random"}}
    assert budget(memory=HEAD * 16 * 5, **random) == 5
    assert budget(memory=0, **random) == 1
    assert budget(memory=GIGABYTE, **random) == 256
    large = spec_of(model={"name": "vgg11", "weights": "DEFAULT"}, fixed={"frozen_layers": len(catalogue.load("vgg11").stages)}, **random)
    assert lane_budget(training(large), FACTS, GIGABYTE, 0) == 1  # 120 million parameters


def test_a_limit_counts_in_place_of_what_would_be_chosen() -> None:
    assert budget(limits={"lanes": 3}, sampler={"name": "random"}) == 3
    assert budget(limits={"lanes": 300}) == 300
    assert budget(limits={"lanes": 300}, memory=HEAD * 16 * 5) == 5


def test_a_sampler_that_learns_suggests_an_eighth_of_the_budget_without_results_and_its_startup_at_once() -> None:
    tpe: dict[str, Any] = {"sampler": {"name": "tpe", "n_startup_trials": 30}, "budget": {"trials": 160}}
    assert [budget(created=created, **tpe) for created in (0, 5, 15, 100)] == [30, 25, 20, 20]
    assert budget(created=50, budget={"trials": 10}) == 4
    assert budget(created=50, budget={"hours": 3.0}) == 4
    assert budget(sampler={"name": "nsga2", "population_size": 40}) == 40
