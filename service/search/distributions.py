"""Optuna's distributions for a search space, and the conversion of values between the two."""

from collections.abc import Callable
from decimal import Decimal
from functools import cached_property
from typing import assert_never

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import Categorical, Float, Int, Params, Scalar, SearchSpace

Number = float | int


class Distributions:
    """A space's distributions by name, each after those that its condition names.

    Optuna receives the index of a category instead of its value, because it does not distinguish `1`, `1.0` and `True`.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._indices = {
            name: {(type(choice), choice): index for index, choice in enumerate(parameter.choices)}
            for name, parameter in space.parameters.items()
            if isinstance(parameter, Categorical)
        }
        self.all: dict[str, BaseDistribution] = {name: distribution_of(parameter) for name, parameter in space.parameters.items()}

    @cached_property
    def unconditional(self) -> dict[str, BaseDistribution]:
        """The parameters that every trial has and that can take more than one value."""
        return {name: each for name, each in self.all.items() if not self._space.root[name].when and not each.single()}

    def active(self, name: str, params: Params) -> bool:
        """Whether the parameter's condition holds, given the values drawn so far."""
        return not self._space.root[name].when or self._space.active(name, params)

    def encode(self, params: Params) -> dict[str, Number]:
        """Convert parameters to Optuna's values."""
        return {name: self._encoded(name, params[name]) for name in self.all if name in params}

    def decode(self, name: str, value: Number) -> Scalar:
        """Convert Optuna's value to a parameter. A value that rounding moved out of the range is clipped to it."""
        match parameter := self._space.root[name]:
            case Categorical(choices=choices):
                return choices[int(value)]
            case Int():
                return int(value)
            case Float(low=low, high=high):
                return min(max(float(value), low), high)
            case _:
                assert_never(parameter)

    def walk(self, draw: Callable[[str], Number]) -> dict[str, Scalar]:
        """A full assignment. Calls `draw` for each active parameter in order."""
        params: dict[str, Scalar] = {}
        for name in self.all:
            if self.active(name, params):
                params[name] = self.decode(name, draw(name))
        return params

    def _encoded(self, name: str, value: Scalar) -> Number:
        if (indices := self._indices.get(name)) is not None:
            return indices[type(value), value]
        return float(value) if isinstance(self.all[name], FloatDistribution) else int(value)  # type: ignore[arg-type]


def distribution_of(parameter: Float | Int | Categorical) -> BaseDistribution:
    """Optuna's distribution for the parameter. A range that its step does not divide ends at the last step."""
    match parameter:
        case Float(low=low, high=high, log=log, step=step):
            return FloatDistribution(low, high if step is None else _last_step(low, high, step), log=log, step=step)
        case Int(low=first, top=top, log=log, step=whole):
            return IntDistribution(first, top - (top - first) % (whole or 1), log=log, step=whole or 1)
        case Categorical(choices=choices):
            return CategoricalDistribution(range(len(choices)))
        case _:
            assert_never(parameter)


def single_value(distribution: BaseDistribution) -> Number:
    """The value of a distribution that has only one."""
    return distribution.low if isinstance(distribution, FloatDistribution | IntDistribution) else 0


def _last_step(low: float, high: float, step: float) -> float:
    # In binary floats 0.3 % 0.1 is 0.0999…: the range would lose its last step.
    first, last, width = (Decimal(repr(number)) for number in (low, high, step))
    return float(last - (last - first) % width)
