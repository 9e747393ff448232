"""Why a trial was pruned, in a sentence that names the value, the step, and what it fell short of."""

from typing import assert_never

import numpy as np
import optuna
from optuna.pruners._percentile import _get_percentile_intermediate_result_over_trials as percentile_at
from optuna.pruners._successive_halving import _completed_rung_key as rung_key
from optuna.pruners._successive_halving import _get_current_rung as next_rung
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.search.brackets import Bracket, BracketPruner


def reason(spec: StudySpec, study: optuna.Study, trial: FrozenTrial) -> str:
    """The sentence for a trial that the study's pruner has just ended at its newest step."""
    return _reason(spec.pruner, spec.objective.metric, study, trial)


def _reason(pruner: Pruner, metric: str, study: optuna.Study, trial: FrozenTrial) -> str:
    step = max(trial.intermediate_values)
    newest = f"{metric} is {trial.intermediate_values[step]:.6g} at step {step}"
    match pruner:
        case Median() | Percentile():
            return _behind_its_peers(pruner, metric, study, trial)
        case Asha(reduction_factor=factor):
            return f"{newest}: {_behind_in_its_rung(study, trial, factor)}."
        case Hyperband(reduction_factor=factor):
            return f"{newest}: {_behind_in_its_rung(_bracket(study, trial), trial, factor)}."
        case Threshold(lower=lower, upper=upper):
            too_low = lower is not None and trial.intermediate_values[step] < lower
            return f"{newest}, {f'below the lower bound {lower:.6g}' if too_low else f'above the upper bound {upper:.6g}'}."
        case Wilcoxon(p_threshold=threshold):
            best = study.best_trial
            return f"{newest}: step by step it is worse than the best trial, {best.number}, by a signed-rank test at p < {threshold:.6g}."
        case Patient(patience=patience, wrapped=wrapped):
            patient = f"{metric} has not improved for more than {patience} steps"
            return f"{patient}: {newest}." if isinstance(wrapped, NoPruner) else f"{patient}, and {_reason(wrapped, metric, study, trial)}"
        case NoPruner():
            return f"{newest}."
        case _:
            assert_never(pruner)


def _behind_its_peers(pruner: Median | Percentile, metric: str, study: optuna.Study, trial: FrozenTrial) -> str:
    step, values = max(trial.intermediate_values), list(trial.intermediate_values.values())
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    peers = [peer for peer in complete if step in peer.intermediate_values]
    maximize = study.direction is StudyDirection.MAXIMIZE
    share = 50.0 if isinstance(pruner, Median) else pruner.percentile
    needed = percentile_at(peers, study.direction, step, share, pruner.n_min_trials)
    line = "the median" if isinstance(pruner, Median) else f"what the best {share:.6g} % reach"
    best, side = (max(values), "below") if maximize else (min(values), "above")
    return f"The best {metric} up to step {step} is {best:.6g}, {side} {line} of {len(peers)} complete trials at that step: {needed:.6g}."


def _behind_in_its_rung(study: optuna.Study | Bracket, trial: FrozenTrial, factor: int) -> str:
    rung = next_rung(trial) - 1
    key = rung_key(rung)
    rivals = [peer.system_attrs for peer in study.get_trials(deepcopy=False) if peer.number != trial.number]
    ranked = np.sort([notes[key] for notes in (*rivals, trial.system_attrs) if key in notes])
    places = max(len(ranked) // factor, 1)
    needed = ranked[-places] if study.direction is StudyDirection.MAXIMIZE else ranked[places - 1]
    return f"not among the best {places} of {len(ranked)} trials in rung {rung}, which needs {needed:.6g}"


def _bracket(study: optuna.Study, trial: FrozenTrial) -> optuna.Study | Bracket:
    pruner = study.pruner
    return pruner.bracket(study, trial) if isinstance(pruner, BracketPruner) else study
