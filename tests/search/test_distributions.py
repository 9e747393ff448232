"""Parameters to and fro between our words and Optuna's."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution

from search_spaces import SearchSpace
from service.search.distributions import Distributions


def distributions(**space: dict[str, object]) -> Distributions:
    return Distributions(SearchSpace.model_validate(space))


def test_one_and_true_are_two_choices() -> None:
    words = distributions(x={"type": "categorical", "choices": [1, True, "1", None, 1.0]})
    assert [words.decode("x", words.encode({"x": choice})["x"]) for choice in (1, True, "1", None, 1.0)] == [1, True, "1", None, 1.0]
    assert [type(words.decode("x", index)) for index in range(5)] == [int, bool, str, type(None), float]


@pytest.mark.parametrize(("low", "high", "step", "last"), [(0.0, 1.0, 0.3, 0.9), (0.1, 0.4, 0.1, 0.4), (0.0, 0.35, 0.1, 0.3)])
def test_a_range_that_its_step_does_not_divide_ends_at_the_last_step_silently(low: float, high: float, step: float, last: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = distributions(x={"type": "float", "low": low, "high": high, "step": step})
    found = words.all["x"]
    assert isinstance(found, FloatDistribution)
    assert found.high == last


@given(st.floats(1e-6, 1e-2), st.floats(0, 1))
def test_rounding_does_not_lead_out_of_a_range(low: float, share: float) -> None:
    words = distributions(x={"type": "float", "low": low, "high": low * 3, "log": True})
    value = words.decode("x", low * 3 * (1 + 1e-15 * share))
    assert isinstance(value, float)
    assert low <= value <= low * 3


def test_inactive_parameters_are_not_drawn() -> None:
    words = distributions(
        momentum={"type": "float", "low": 0, "high": 1, "when": {"optimizer": ["sgd"]}},
        optimizer={"type": "categorical", "choices": ["adam", "sgd"]},
    )
    asked: list[str] = []

    def first_choice(name: str) -> int:
        asked.append(name)
        return 0

    assert words.walk(first_choice) == {"optimizer": "adam"}
    assert asked == ["optimizer"]
