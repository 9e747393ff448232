"""What a study will still ask of its frozen stages follows from its space and budget."""

from typing import Any

import pytest

from tests.narrowed import trained
from tests.operations.driving import spec_of

PRETRAINED = {"name": "resnet18", "weights": "DEFAULT"}


def demand(created: int = 0, **changes: Any) -> dict[int, float]:
    return dict(spec_of(**{"model": PRETRAINED, "fixed": {"epochs": 10}} | changes).demand(created))


def test_a_fixed_depth_is_asked_for_by_every_trial_that_is_still_to_come() -> None:
    assert demand(fixed={"epochs": 10, "frozen_layers": 6}) == {6: 200.0}
    assert demand(created=15, fixed={"epochs": 10, "frozen_layers": 6}) == {6: 50.0}


def test_the_trial_that_asks_counts_however_many_were_created() -> None:
    assert demand(created=20, fixed={"epochs": 10, "frozen_layers": 6}) == {6: 10.0}


def test_a_range_is_shared_out_evenly_and_what_freezes_nothing_is_left_out() -> None:
    assert demand(search_space={"frozen_layers": {"type": "int", "low": 0, "high": 4}}) == pytest.approx(dict.fromkeys((1, 2, 3, 4), 40.0))
    assert demand(search_space={"frozen_layers": {"type": "int", "low": 0, "high": 5, "step": 2}}) == pytest.approx(
        {2: 200 / 3, 4: 200 / 3}
    )
    assert demand(search_space={"frozen_layers": {"type": "categorical", "choices": [0, 6]}}) == {6: 100.0}


def test_a_log_range_draws_low_depths_more_often() -> None:
    asked = demand(search_space={"frozen_layers": {"type": "int", "low": 1, "high": 6, "log": True}})
    assert sum(asked.values()) == pytest.approx(200)
    assert asked[1] > 2 * asked[2] > 2 * asked[6]


def test_epochs_that_vary_count_by_their_mean() -> None:
    def with_epochs(**epochs: Any) -> float:
        space = {"epochs": epochs, "lr": {"type": "float", "low": 0.1, "high": 1.0}}
        return demand(search_space=space, fixed={"frozen_layers": 6})[6] / 20

    assert with_epochs(type="int", low=2, high=10) == 6
    assert with_epochs(type="int", low=2, high=11, step=4) == 6
    assert with_epochs(type="categorical", choices=[1, 5]) == 3
    assert with_epochs(type="int", low=1, high=100, log=True) == pytest.approx(21.5, abs=0.1)


def test_a_condition_counts_as_often_as_it_holds() -> None:
    space = {
        "optimizer": {"type": "categorical", "choices": ["sgd", "adam", "adamw", "rmsprop"]},
        "frozen_layers": {"type": "int", "low": 3, "high": 3, "when": {"optimizer": ["sgd"]}},
    }
    assert demand(search_space=space) == pytest.approx({3: 50.0})


def test_without_weights_nothing_is_asked_for() -> None:
    assert demand(model={"name": "resnet18"}, fixed={"epochs": 10, "frozen_layers": 6}) == {}


def test_a_budget_in_hours_counts_as_some_trials() -> None:
    assert demand(budget={"hours": 2.0}, fixed={"epochs": 10, "frozen_layers": 6}) == {6: 320.0}


def test_all_trials_of_a_study_have_their_images_order_in_common() -> None:
    spec = spec_of(sampler={"name": "random", "seed": 7})
    first, second = (spec.config_for({"lr": 0.1}, number) for number in (0, 1))
    assert trained(first).order_seed == trained(second).order_seed == 7
    assert first.seed != second.seed
    fixed = spec_of(sampler={"name": "random", "seed": 7}, fixed={"order_seed": 3})
    assert trained(fixed.config_for({"lr": 0.1}, 0)).order_seed == 3
