"""From a pruner's name and options in the spec to Optuna's pruner, and the steps at which it may decide."""

from collections.abc import Iterator
from itertools import count, takewhile
from typing import assert_never

import optuna.pruners
from optuna.pruners import BasePruner

from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.search.brackets import BracketPruner
from service.search.experimental import quietly


def decision_steps(spec: StudySpec, epochs: int) -> tuple[int, ...]:
    """The steps (epochs, from 1) of a run at which the study's pruner may end it; never the last one."""
    return tuple(takewhile(lambda step: step < epochs, _steps(spec.pruner)))


def first_decision(pruner: Pruner) -> int | None:
    """The first step at which the pruner could end a long run; None when it ends none."""
    return next(_steps(pruner), None)


def _steps(pruner: Pruner) -> Iterator[int]:
    """All of them, rising, without end."""
    match pruner:
        case NoPruner():
            return iter(())
        case Median() | Percentile() | Threshold():
            return count(_first_after_warmup(pruner), pruner.interval_steps)
        case Asha():
            return _rungs(pruner.min_steps, pruner.reduction_factor, pruner.min_early_stopping_rate)
        case Hyperband():
            return _rungs(pruner.min_steps, pruner.reduction_factor, 0)
        case Wilcoxon():
            return count(max(2, pruner.n_startup_steps))
        case Patient(wrapped=wrapped, patience=patience):
            return (step for step in _steps_within_patience(wrapped) if step >= patience + 2)
        case _:
            assert_never(pruner)


def _first_after_warmup(options: Median | Percentile | Threshold) -> int:
    """Optuna counts steps from 0 and we count epochs from 1: so many whole epochs are let pass on either side."""
    return options.n_warmup_steps + 1


def _steps_within_patience(wrapped: Pruner) -> Iterator[int]:
    """Patience may let a rung pass; the next step after it, whichever, then counts as that rung."""
    match wrapped:
        case NoPruner():
            return count(1)
        case Asha() | Hyperband():
            return count(next(_steps(wrapped)))
        case _:
            return _steps(wrapped)


def _rungs(min_steps: int, reduction_factor: int, first: int) -> Iterator[int]:
    return (min_steps * reduction_factor**rung for rung in count(first))


def pruner_for(pruner: Pruner, epochs: int) -> BasePruner:
    """Optuna's pruner of that name, for trials of at most so many epochs."""
    match pruner:
        case NoPruner():
            return optuna.pruners.NopPruner()
        case Median():
            return _percentile(50.0, pruner)
        case Percentile(percentile=percentile):
            return _percentile(percentile, pruner)
        case Asha():
            return optuna.pruners.SuccessiveHalvingPruner(pruner.min_steps, pruner.reduction_factor, pruner.min_early_stopping_rate)
        case Hyperband():
            return BracketPruner(pruner.min_steps, epochs, pruner.reduction_factor)
        case Threshold():
            return optuna.pruners.ThresholdPruner(pruner.lower, pruner.upper, _first_after_warmup(pruner), pruner.interval_steps)
        case Wilcoxon():
            return quietly(optuna.pruners.WilcoxonPruner, p_threshold=pruner.p_threshold, n_startup_steps=pruner.n_startup_steps)
        case Patient(wrapped=wrapped):
            inner = None if isinstance(wrapped, NoPruner) else pruner_for(wrapped, epochs)
            return quietly(optuna.pruners.PatientPruner, inner, pruner.patience, pruner.min_delta)
        case _:
            assert_never(pruner)


def _percentile(percentile: float, options: Median | Percentile) -> BasePruner:
    return optuna.pruners.PercentilePruner(
        percentile, options.n_startup_trials, _first_after_warmup(options), options.interval_steps, n_min_trials=options.n_min_trials
    )
