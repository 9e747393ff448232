"""How many configurations a space has, conditions counted."""

from itertools import product
from typing import Any

import pytest

from search_spaces import SearchSpace

LAYERS = {"type": "int", "low": 0, "high": 9}
CHOICES = {"type": "categorical", "choices": ["sgd", "adam"]}


@pytest.mark.parametrize(
    ("space", "count"),
    [
        ({"optimizer": CHOICES}, 2),
        ({"optimizer": CHOICES, "epochs": {"type": "int", "low": 1, "high": 3}}, 6),
        ({"optimizer": CHOICES, "epochs": {"type": "int", "low": 1, "high": 3, "when": {"optimizer": ["sgd"]}}}, 4),
        ({"dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25}}, 3),
        ({"lr": {"type": "float", "low": 0.1, "high": 0.1}}, 1),
        ({"lr": {"type": "float", "low": 0.1, "high": 0.2}}, None),
        ({"optimizer": CHOICES, "momentum": {"type": "float", "low": 0.1, "high": 0.2, "when": {"optimizer": ["sgd"]}}}, None),
        ({"frozen_layers": LAYERS, "epochs": {"type": "int", "low": 1, "high": 5, "when": {"frozen_layers": [9]}}}, 14),
    ],
)  # fmt: skip
def test_configurations_are_counted(space: dict[str, Any], count: int | None) -> None:
    assert SearchSpace.model_validate(space).distinct == count


def test_a_chain_of_conditions_is_counted_as_it_is_drawn() -> None:
    bits = {"type": "categorical", "choices": [0, 1, 2]}
    space = SearchSpace.model_validate(
        {"a": bits, "b": bits | {"when": {"a": [1, 2]}}, "c": bits | {"when": {"b": [0], "a": [2]}}, "d": bits}
    )
    drawn = set()
    for values in product(range(3), repeat=4):
        params: dict[str, Any] = {}
        for name, value in zip("abcd", values, strict=True):
            if space.active(name, params):
                params[name] = value
        drawn.add(tuple(params.items()))
    assert space.distinct == len(drawn)


def test_a_space_of_more_branches_than_are_followed_has_a_bound() -> None:
    bits = {"type": "categorical", "choices": [0, 1]}
    parents = {f"p{place}": bits for place in range(30)}
    children = {f"c{place}": bits | {"when": {f"p{place}": [1]}} for place in range(30)}
    space = SearchSpace.model_validate({**parents, **children})
    assert space.distinct is not None and 3**30 <= space.distinct <= 4**30
