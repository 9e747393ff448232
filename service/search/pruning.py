"""Decisions about running trials: Optuna's pruner gives the verdict, the reasons are ours."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from service.domain.samplers import NoPruner
from service.domain.spec import StudySpec
from service.search.answers import Decision
from service.search.history import History
from service.search.pruners import pruner_for
from service.search.reasons import reason
from service.search.rows import RowsForPruners, running_trial


class Pruning:
    """A study's pruner. A decision follows from the history and the trial's own values, nothing else."""

    def __init__(self, spec: StudySpec, history: History) -> None:
        self._spec = spec
        self._history = history
        self._pruner = pruner_for(spec.pruner, spec.epochs)
        self._name = str(spec.sampler.seed)  # Optuna's Hyperband finds a trial's bracket from the study's name and the number

    def decide_all(self, curves: Mapping[int, Mapping[int, float]]) -> dict[int, Decision]:
        """By number, whether each trial goes on after its newest step. A value that is not finite ends it under every pruner but `none`.

        Rungs are judged one after another: a trial is compared with all of these trials that reach its rung, so that of many
        which report at once the best share survives, not whoever is asked first.
        """
        decisions: dict[int, Decision] = {}
        peers: dict[int, FrozenTrial] = {}  # the trials as they stand once their notes are taken
        while True:
            decisions = {number: self._decide(number, values, peers) for number, values in curves.items()}
            reached = {number: self._first_new_note(number, decision, peers) for number, decision in decisions.items()}
            new = {number: note for number, note in reached.items() if note}
            if len(curves) == 1 or not new:
                return decisions
            peers |= {number: self._noting(number, curves[number], peers, note) for number, note in new.items()}

    def _decide(self, number: int, values: Mapping[int, float], peers: Mapping[int, FrozenTrial]) -> Decision:
        if isinstance(self._spec.pruner, NoPruner) or not values:
            return Decision(go_on=True)
        newest = max(values)
        if not math.isfinite(values[newest]):
            return Decision(go_on=False, why=f"{self._spec.objective.metric} is {values[newest]} at step {newest}.")
        rows = RowsForPruners(self._history, self._name, running_trial(number, _finite(values), self._notes(number)), peers)
        study = optuna.Study(self._name, rows, pruner=self._pruner)
        pruned = self._pruner.prune(study, rows.asked)
        return Decision(not pruned, rows.trial_notes, reason(self._spec, study, rows.asked) if pruned else None)

    def _notes(self, number: int) -> dict[str, Any]:
        known = self._history.trial(number)
        return {} if known is None else dict(known.system_attrs)

    def _first_new_note(self, number: int, decision: Decision, peers: Mapping[int, FrozenTrial]) -> dict[str, Any]:
        """Of what the pruner notes, the first thing that the others do not see yet: the lowest rung."""
        seen = peers[number].system_attrs if number in peers else self._notes(number)
        return dict(list((key, note) for key, note in decision.memory.items() if key not in seen)[:1])

    def _noting(self, number: int, values: Mapping[int, float], peers: Mapping[int, FrozenTrial], note: Mapping[str, Any]) -> FrozenTrial:
        notes = peers[number].system_attrs if number in peers else self._notes(number)
        return running_trial(number, _finite(values), {**notes, **note})


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in sorted(values.items()) if math.isfinite(value)}
