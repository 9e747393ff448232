"""Estimate the epochs that a study will train, by number of frozen stages."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from search_spaces import Categorical, Float, Int, Scalar, SearchSpace
from trainer.configuration import Hyperparameters

TRIALS_WITHOUT_BOUND = 32  # assumed for a budget in hours alone: enough to justify stored features, few enough to limit wasted ones
MOST_VALUES = 10_001  # of a range of frozen stages: TrainConfig accepts 0 to 10,000


def epochs_by_depth(
    space: SearchSpace,
    fixed: Mapping[str, Scalar],
    hyperparameters: type[Hyperparameters],
    trials: int,
    frozen: Callable[[Mapping[str, Any]], int] = lambda values: int(values["frozen_layers"]),
    names: Sequence[str] = ("frozen_layers",),
) -> dict[int, float]:
    """The epochs that `trials` trials, drawn uniformly from the space, train with each number of frozen stages above 0.

    `frozen` computes that number from hyperparameters by name, and depends on `names`; a parameter that a condition names precedes those
    that it governs. Assumes that parameters are independent apart from their conditions, and that no trial is pruned: an upper estimate.
    """
    values = {name: fixed.get(name, field.default) for name, field in hyperparameters.model_fields.items()}
    epochs = trials * _mean(space, values, "epochs")
    shares = dict[int, float]()
    for drawn, share in _joint_shares(space, values, names, {}):
        depth = frozen({**values, **drawn})
        shares[depth] = shares.get(depth, 0.0) + share
    return {depth: share * epochs for depth, share in sorted(shares.items()) if depth > 0}


def _joint_shares(
    space: SearchSpace, values: Mapping[str, Scalar], names: Sequence[str], drawn: Mapping[str, Scalar]
) -> Iterator[tuple[Mapping[str, Scalar], float]]:
    """The probability of each combination of values of the parameters."""
    if not names:
        yield drawn, 1.0
        return
    name, *rest = names
    for value, share in _shares(space, values, name, drawn).items():
        for found, own in _joint_shares(space, values, rest, {**drawn, name: value}):
            yield found, share * own


def _shares(space: SearchSpace, values: Mapping[str, Scalar], name: str, drawn: Mapping[str, Scalar]) -> dict[Scalar, float]:
    """The probability of each value of the parameter, given the drawn ones. The default applies where its condition does not hold."""
    if (parameter := space.root.get(name)) is None:
        return {values[name]: 1.0}
    if not (active := _activity(space, name, drawn)):
        return {values[name]: 1.0}
    shares = {value: share * active for value, share in _evenly(parameter).items()}
    if active < 1:
        default = values[name]
        shares[default] = shares.get(default, 0.0) + 1 - active
    return shares


def _mean(space: SearchSpace, values: Mapping[str, Scalar], name: str) -> float:
    """The mean of a numeric parameter, with its default where its condition does not hold."""
    if (parameter := space.root.get(name)) is None:
        return float(values[name])  # type: ignore[arg-type]  # epochs are a number
    active = _activity(space, name, {})
    return active * _even_mean(parameter) + (1 - active) * float(values[name])  # type: ignore[arg-type]


def _activity(space: SearchSpace, name: str, drawn: Mapping[str, Scalar]) -> float:
    """The probability that the parameter's condition holds, given the drawn values of others."""
    probability = 1.0
    for parent, values in space.root[name].when.items():
        known = parent in drawn
        shares = {drawn[parent]: 1.0} if known else _evenly(space.root[parent])
        fitting = sum(share for value, share in shares.items() if any(type(value) is type(one) and value == one for one in values))
        probability *= fitting * (1.0 if known else _activity(space, parent, drawn))
    return probability


def _evenly(parameter: Float | Int | Categorical) -> dict[Scalar, float]:
    """The probability of each value under a uniform draw on the parameter's own scale; empty for a float range."""
    match parameter:
        case Categorical(choices=choices):
            return dict.fromkeys(choices, 1 / len(choices))
        case Int():
            step = max(parameter.step or 1, (parameter.top - parameter.low) // MOST_VALUES)
            values = range(parameter.low, parameter.top + 1, step)
            # On a log scale an int stands for the interval of reals that round to it.
            weights = [math.log((value + 0.5) / (value - 0.5)) if parameter.log else 1.0 for value in values]
            total = sum(weights)
            return {value: weight / total for value, weight in zip(values, weights, strict=True)}
        case Float():
            return {}


def _even_mean(parameter: Float | Int | Categorical) -> float:
    if isinstance(parameter, Categorical):
        return sum(float(choice) for choice in parameter.choices if isinstance(choice, int | float)) / len(parameter.choices)
    low, high = float(parameter.low), float(parameter.top if isinstance(parameter, Int) else parameter.high)
    if parameter.log and high > low:
        return (high - low) / math.log(high / low)
    last = low + (high - low) // parameter.step * parameter.step if parameter.step else high
    return (low + last) / 2
