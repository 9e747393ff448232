"""What a trial was pruned on, read from the pruner's own view of the study: value, threshold and peers."""

import math
from collections.abc import Iterable
from typing import Any, assert_never

import numpy as np
import optuna
from optuna.pruners._percentile import _get_percentile_intermediate_result_over_trials as percentile_at
from optuna.pruners._successive_halving import _completed_rung_key as rung_key
from optuna.pruners._successive_halving import _get_current_rung as next_rung
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.domain.pruning import MOST_PEERS, Evidence, Finding, Peer, places, with_sentence
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.domain.states import ValueKind
from service.search.brackets import Bracket, BracketPruner


def evidence(spec: StudySpec, study: optuna.Study, trial: FrozenTrial) -> Evidence:
    """What the study's pruner has just ended the trial on, at its newest step. The trial's values are finite."""
    return with_sentence(_finding(spec, study, trial, **_judged(spec.pruner, study, trial)))


def evidence_of_no_number(spec: StudySpec, trial: FrozenTrial) -> Evidence:
    """The same for a trial whose newest value is not finite."""
    newest = trial.intermediate_values[max(trial.intermediate_values)]
    signed = ValueKind.POS_INF if newest > 0 else ValueKind.NEG_INF
    return with_sentence(_finding(spec, None, trial, value=None, kind=ValueKind.NAN if math.isnan(newest) else signed))


def _finding(
    spec: StudySpec,
    study: optuna.Study | None,
    trial: FrozenTrial,
    *,
    value: float | None,
    threshold: float | None = None,
    peers: Iterable[tuple[int, float]] = (),
    **more: Any,
) -> Finding:
    known = list(peers)
    near = threshold if threshold is not None else value or 0.0
    named = sorted(known, key=lambda peer: (abs(peer[1] - near), peer[0]))[:MOST_PEERS]
    return Finding(
        rule=spec.pruner,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        step=max(trial.intermediate_values),
        value=value,
        threshold=threshold,
        peers=tuple(Peer(number=number, value=value) for number, value in named),
        peers_total=len(known),
        **more,
    )


def _judged(pruner: Pruner, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """Of the finding, what depends on the rule."""
    newest = trial.intermediate_values[max(trial.intermediate_values)]
    match pruner:
        case Median():
            return _beside_complete_ones(study, trial, 50.0, pruner.n_min_trials)
        case Percentile():
            return _beside_complete_ones(study, trial, pruner.percentile, pruner.n_min_trials)
        case Asha(reduction_factor=factor):
            return _in_its_rung(study, trial, factor)
        case Hyperband(reduction_factor=factor):
            bracket = _bracket(study, trial)
            return {**_in_its_rung(bracket, trial, factor), "bracket": bracket.id}
        case Threshold(lower=lower, upper=upper):
            return {"value": newest, "threshold": lower if lower is not None and newest < lower else upper}
        case Wilcoxon():
            return {"value": newest, "peers": _the_best_one(study, trial)}
        case Patient(wrapped=NoPruner(), patience=patience, min_delta=delta):
            return {"value": newest, "threshold": _before_patience(study, trial, patience, delta)}
        case Patient(wrapped=wrapped):
            return _judged(wrapped, study, trial)
        case NoPruner():
            return {"value": newest}
        case _:
            assert_never(pruner)


def _maximizes(study: optuna.Study | Bracket) -> bool:
    return study.direction is StudyDirection.MAXIMIZE


def _beside_complete_ones(study: optuna.Study, trial: FrozenTrial, share: float, n_min_trials: int) -> dict[str, Any]:
    step, values = max(trial.intermediate_values), trial.intermediate_values.values()
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    peers = [peer for peer in complete if step in peer.intermediate_values]
    return {
        "value": max(values) if _maximizes(study) else min(values),
        "threshold": percentile_at(peers, study.direction, step, share, n_min_trials),
        "peers": [(peer.number, peer.intermediate_values[step]) for peer in peers],
    }


def _in_its_rung(study: optuna.Study | Bracket, trial: FrozenTrial, factor: int) -> dict[str, Any]:
    rung = next_rung(trial) - 1
    key = rung_key(rung)
    others = (peer for peer in study.get_trials(deepcopy=False) if peer.number != trial.number)
    peers = [(peer.number, float(peer.system_attrs[key])) for peer in others if key in peer.system_attrs]
    own = float(trial.system_attrs[key])
    ranked = np.sort([own, *(value for _, value in peers)])
    last = places(len(ranked), factor)
    needed = ranked[-last] if _maximizes(study) else ranked[last - 1]
    return {"value": own, "rung": rung, "threshold": float(needed), "peers": peers}


def _bracket(study: optuna.Study, trial: FrozenTrial) -> Bracket:
    """The trial's bracket of Hyperband, also where patience is wrapped around it."""
    pruner = getattr(study.pruner, "_wrapped_pruner", study.pruner)
    if not isinstance(pruner, BracketPruner):
        raise TypeError(f"{type(pruner).__name__} has no brackets")
    return pruner.bracket(study, trial)


def _the_best_one(study: optuna.Study, trial: FrozenTrial) -> list[tuple[int, float]]:
    """The best trial, by its value at the newest step that both have."""
    best = study.best_trial
    common = best.intermediate_values.keys() & trial.intermediate_values.keys()
    return [(best.number, best.intermediate_values[max(common)])] if common else []


def _before_patience(study: optuna.Study, trial: FrozenTrial, patience: int, min_delta: float) -> float:
    """What one of the last `patience + 1` values had to reach: the best before them, less what counts as no change."""
    before = [value for _, value in sorted(trial.intermediate_values.items())][: -patience - 1]
    return max(before) - min_delta if _maximizes(study) else min(before) + min_delta
