"""Suggests the parameters of a search space with an Optuna trial, one by one, as an objective function does."""

from typing import Any

import optuna

from search_spaces import Categorical, Float, Int, SearchSpace


def asked(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """The values of all active parameters."""
    params = dict[str, Any]()
    for name, parameter in space.parameters.items():
        if space.active(name, params):
            match parameter:
                case Float(low=low, high=high, log=log):
                    params[name] = trial.suggest_float(name, low, high, log=log)
                case Int(low=least, top=most):
                    params[name] = trial.suggest_int(name, least, most)
                case Categorical(choices=choices):
                    params[name] = trial.suggest_categorical(name, choices)
    return params
