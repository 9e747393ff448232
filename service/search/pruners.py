"""Optuna's pruners for a study, their decisions, and the evidence for these."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, assert_never

import numpy as np
import optuna
import optuna.pruners
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from service.domain.pruning import MOST_PEERS, Finding, Peer, PruningReason, places, with_sentence
from service.domain.samplers import Asha, Hyperband, Median, NoPruner, Patient, Percentile, Pruner, Threshold, Wilcoxon
from service.domain.spec import StudySpec
from service.domain.states import ValueKind
from service.search.base import Decision, without_experimental_warning
from service.search.history import History, RowsForPruners, running_trial
from service.search.optuna_private import Bracket, BracketPruner, next_rung, percentile_at, rung_key


def decision_steps(spec: StudySpec, epochs: int) -> tuple[int, ...]:
    """The steps (epochs, from 1) at which the study's pruner may end a run of `epochs` epochs; never the last one."""
    return tuple(takewhile(lambda step: step < epochs, _steps(spec.pruner)))


def first_decision(pruner: Pruner) -> int | None:
    """The first step at which the pruner could end a run of any length; None for a pruner that never ends one."""
    return next(_steps(pruner), None)


def _steps(pruner: Pruner) -> Iterator[int]:
    """All decision steps in ascending order, without an upper limit."""
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
    """The first epoch after `n_warmup_steps` whole epochs."""
    # Optuna counts steps from 0, epochs are counted from 1.
    return options.n_warmup_steps + 1


def _steps_within_patience(wrapped: Pruner) -> Iterator[int]:
    """The steps at which a pruner with patience around it may decide.

    Patience may skip the step of a rung. The next step then counts as that rung, so every step from the first rung on is included.
    """
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
    """Optuna's pruner with these options, for trials of at most `epochs` epochs."""
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
            return without_experimental_warning(
                optuna.pruners.WilcoxonPruner, p_threshold=pruner.p_threshold, n_startup_steps=pruner.n_startup_steps
            )
        case Patient(wrapped=wrapped):
            inner = None if isinstance(wrapped, NoPruner) else pruner_for(wrapped, epochs)
            return without_experimental_warning(optuna.pruners.PatientPruner, inner, pruner.patience, pruner.min_delta)
        case _:
            assert_never(pruner)


def _percentile(percentile: float, options: Median | Percentile) -> BasePruner:
    return optuna.pruners.PercentilePruner(
        percentile, options.n_startup_trials, _first_after_warmup(options), options.interval_steps, n_min_trials=options.n_min_trials
    )


def evidence(spec: StudySpec, study: optuna.Study, trial: FrozenTrial) -> PruningReason:
    """The evidence on which the study's pruner ended the trial at its newest step. The trial's values must be finite."""
    return with_sentence(_finding(spec, study, trial, **_judged(spec.pruner, study, trial)))


def evidence_of_no_number(spec: StudySpec, trial: FrozenTrial) -> PruningReason:
    """The evidence for a trial whose newest value is not finite."""
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
    # A reason names only some peers: those whose values are nearest to the threshold.
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
    """The fields of the finding that depend on the rule."""
    newest = trial.intermediate_values[max(trial.intermediate_values)]
    match pruner:
        case Median():
            return _percentile_evidence(study, trial, 50.0, pruner.n_min_trials)
        case Percentile():
            return _percentile_evidence(study, trial, pruner.percentile, pruner.n_min_trials)
        case Asha(reduction_factor=factor):
            return _rung_evidence(study, trial, factor)
        case Hyperband(reduction_factor=factor):
            bracket = _bracket(study, trial)
            return {**_rung_evidence(bracket, trial, factor), "bracket": bracket.id}
        case Threshold(lower=lower, upper=upper):
            return {"value": newest, "threshold": lower if lower is not None and newest < lower else upper}
        case Wilcoxon():
            return {"value": newest, "peers": _best_peer(study, trial)}
        case Patient(wrapped=NoPruner(), patience=patience, min_delta=delta):
            return {"value": newest, "threshold": _patience_threshold(study, trial, patience, delta)}
        case Patient(wrapped=wrapped):
            return _judged(wrapped, study, trial)
        case NoPruner():
            return {"value": newest}
        case _:
            assert_never(pruner)


def _maximizes(study: optuna.Study | Bracket) -> bool:
    return study.direction is StudyDirection.MAXIMIZE


def _percentile_evidence(study: optuna.Study, trial: FrozenTrial, share: float, n_min_trials: int) -> dict[str, Any]:
    step, values = max(trial.intermediate_values), trial.intermediate_values.values()
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    peers = [peer for peer in complete if step in peer.intermediate_values]
    return {
        "value": max(values) if _maximizes(study) else min(values),
        "threshold": percentile_at(peers, study.direction, step, share, n_min_trials),
        "peers": [(peer.number, peer.intermediate_values[step]) for peer in peers],
    }


def _rung_evidence(study: optuna.Study | Bracket, trial: FrozenTrial, factor: int) -> dict[str, Any]:
    # The pruner has just written its note of the rung that ended the trial, so Optuna already counts the next one.
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
    """The trial's bracket of Hyperband, also for Hyperband that is wrapped in patience."""
    pruner = getattr(study.pruner, "_wrapped_pruner", study.pruner)
    if not isinstance(pruner, BracketPruner):
        raise TypeError(f"{type(pruner).__name__} has no brackets")
    return pruner.bracket(study, trial)


def _best_peer(study: optuna.Study, trial: FrozenTrial) -> list[tuple[int, float]]:
    """The best trial, with its value at the newest step that both trials have."""
    best = study.best_trial
    common = best.intermediate_values.keys() & trial.intermediate_values.keys()
    return [(best.number, best.intermediate_values[max(common)])] if common else []


def _patience_threshold(study: optuna.Study, trial: FrozenTrial, patience: int, min_delta: float) -> float:
    """The value that one of the last `patience + 1` had to reach: the best before them, less `min_delta`."""
    before = [value for _, value in sorted(trial.intermediate_values.items())][: -patience - 1]
    return max(before) - min_delta if _maximizes(study) else min(before) + min_delta


@dataclass(frozen=True, slots=True)
class PrunerVerdict:
    """Whether the pruner ends a trial, the trial as the pruner saw it, and the pruner's notes on it."""

    pruned: bool
    trial: FrozenTrial
    notes: Mapping[str, Any]


class Pruning:
    """A study's pruner. Decisions are a function of the history and the trials' own values."""

    def __init__(self, spec: StudySpec, history: History) -> None:
        self._spec = spec
        self._history = history
        self._pruner = pruner_for(spec.pruner, spec.last_step)
        self._name = str(spec.sampler.seed)  # Optuna's Hyperband hashes the study's name and the trial's number to the bracket

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        """Decisions by trial number, after each trial's newest step. A value that is not finite ends a trial under every pruner but `none`.

        Rungs are judged in ascending order. Each trial is compared with all of these trials that reach its rung, so the best
        share of trials that report at the same time survives, whatever their order.
        """
        # Successive halving writes a trial's value at a rung as a note, and compares with the notes of other trials. A round of
        # decisions makes one more note of each trial visible to the others; the decisions are final when no new note appears.
        peers: dict[int, FrozenTrial] = {}  # the trials with the notes that are visible so far
        while True:
            rows = RowsForPruners(self._history, self._name, peers)
            study = optuna.Study(self._name, rows, pruner=self._pruner)
            verdicts = {number: self._judge(study, rows, number, values) for number, values in curves.items()}
            new = {number: note for number, verdict in verdicts.items() if (note := self._first_new_note(number, verdict, peers))}
            if len(curves) == 1 or not new:
                return {number: self._decision(study, rows, verdict) for number, verdict in verdicts.items()}
            peers |= {number: self._with_note(number, curves[number], peers, note) for number, note in new.items()}

    def _judge(self, study: optuna.Study, rows: RowsForPruners, number: int, values: Mapping[int, float]) -> PrunerVerdict:
        current = running_trial(number, dict(sorted(values.items())), self._notes(number))
        if isinstance(self._spec.pruner, NoPruner) or not values:
            return PrunerVerdict(False, current, {})
        if not math.isfinite(values[max(values)]):
            return PrunerVerdict(True, current, {})
        current.intermediate_values = _finite(values)
        rows.select(current)
        return PrunerVerdict(self._pruner.prune(study, current), current, rows.trial_notes)

    def _decision(self, study: optuna.Study, rows: RowsForPruners, verdict: PrunerVerdict) -> Decision:
        if not verdict.pruned:
            return Decision(True, verdict.notes)
        values = verdict.trial.intermediate_values
        if not math.isfinite(values[max(values)]):
            return Decision(False, evidence=evidence_of_no_number(self._spec, verdict.trial))
        rows.select(verdict.trial)
        return Decision(False, verdict.notes, evidence(self._spec, study, verdict.trial))

    def _notes(self, number: int) -> dict[str, Any]:
        known = self._history.trial(number)
        return {} if known is None else dict(known.system_attrs)

    def _first_new_note(self, number: int, verdict: PrunerVerdict, peers: Mapping[int, FrozenTrial]) -> dict[str, Any]:
        """The first of the pruner's notes that other trials do not see yet, which is that of the lowest rung."""
        seen = peers[number].system_attrs if number in peers else self._notes(number)
        return dict([(key, note) for key, note in verdict.notes.items() if key not in seen][:1])

    def _with_note(
        self, number: int, values: Mapping[int, float], peers: Mapping[int, FrozenTrial], note: Mapping[str, Any]
    ) -> FrozenTrial:
        notes = peers[number].system_attrs if number in peers else self._notes(number)
        return running_trial(number, _finite(values), {**notes, **note})


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in sorted(values.items()) if math.isfinite(value)}
