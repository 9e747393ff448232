"""Estimate the epochs that a study will train, by number of frozen stages."""

import math
from collections.abc import Mapping

from search_spaces import Categorical, Float, Int, Scalar, SearchSpace
from trainer.configuration import Hyperparameters

TRIALS_WITHOUT_BOUND = 32  # assumed for a budget in hours alone: enough to justify stored features, few enough to limit wasted ones
MOST_VALUES = 10_001  # of a range of frozen stages: TrainConfig accepts 0 to 10,000


def epochs_by_depth(
    space: SearchSpace, fixed: Mapping[str, Scalar], hyperparameters: type[Hyperparameters], trials: int
) -> dict[int, float]:
    """The epochs that `trials` trials, drawn uniformly from the space, train with each number of frozen stages above 0.

    Assumes that parameters are independent apart from their conditions, and that no trial is pruned: an upper estimate.
    """
    values = {name: fixed.get(name, field.default) for name, field in hyperparameters.model_fields.items()}
    epochs = trials * _mean(space, values, "epochs")
    shares = _shares(space, values, "frozen_layers")
    return {int(depth): share * epochs for depth, share in sorted(shares.items()) if isinstance(depth, int) and depth > 0}


def _shares(space: SearchSpace, values: Mapping[str, Scalar], name: str) -> dict[Scalar, float]:
    """The probability of each value of the parameter. The default applies where its condition does not hold."""
    if (parameter := space.root.get(name)) is None:
        return {values[name]: 1.0}
    active = _activity(space, name)
    shares = {value: share * active for value, share in _evenly(parameter).items()}
    if active < 1:
        default = values[name]
        shares[default] = shares.get(default, 0.0) + 1 - active
    return shares


def _mean(space: SearchSpace, values: Mapping[str, Scalar], name: str) -> float:
    """The mean of a numeric parameter, with its default where its condition does not hold."""
    if (parameter := space.root.get(name)) is None:
        return float(values[name])  # type: ignore[arg-type]  # epochs are a number
    active = _activity(space, name)
    return active * _even_mean(parameter) + (1 - active) * float(values[name])  # type: ignore[arg-type]


def _activity(space: SearchSpace, name: str) -> float:
    """The probability that the parameter's condition holds."""
    probability = 1.0
    for parent, values in space.root[name].when.items():
        shares = _evenly(space.root[parent])
        drawn = sum(share for value, share in shares.items() if any(type(value) is type(one) and value == one for one in values))
        probability *= drawn * _activity(space, parent)
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
