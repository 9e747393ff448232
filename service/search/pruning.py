"""Decisions about running trials: Optuna's pruner gives the verdict, the evidence is ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from service.domain.samplers import NoPruner
from service.domain.spec import StudySpec
from service.search.answers import Decision
from service.search.history import History
from service.search.pruners import pruner_for
from service.search.reasons import evidence, evidence_of_no_number
from service.search.rows import RowsForPruners, running_trial


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the pruner ends a trial, the trial as it was looked at, and what the pruner noted on it."""

    pruned: bool
    asked: FrozenTrial
    notes: Mapping[str, Any]


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
        peers: dict[int, FrozenTrial] = {}  # the trials as they stand once what is noted on them is known
        while True:
            rows = RowsForPruners(self._history, self._name, peers)
            study = optuna.Study(self._name, rows, pruner=self._pruner)
            verdicts = {number: self._judge(study, rows, number, values) for number, values in curves.items()}
            new = {number: note for number, verdict in verdicts.items() if (note := self._first_new_note(number, verdict, peers))}
            if len(curves) == 1 or not new:
                return {number: self._decision(study, rows, verdict) for number, verdict in verdicts.items()}
            peers |= {number: self._noting(number, curves[number], peers, note) for number, note in new.items()}

    def _judge(self, study: optuna.Study, rows: RowsForPruners, number: int, values: Mapping[int, float]) -> Verdict:
        asked = running_trial(number, dict(sorted(values.items())), self._notes(number))
        if isinstance(self._spec.pruner, NoPruner) or not values:
            return Verdict(False, asked, {})
        if not math.isfinite(values[max(values)]):
            return Verdict(True, asked, {})
        asked.intermediate_values = _finite(values)
        rows.ask(asked)
        return Verdict(self._pruner.prune(study, asked), asked, rows.trial_notes)

    def _decision(self, study: optuna.Study, rows: RowsForPruners, verdict: Verdict) -> Decision:
        if not verdict.pruned:
            return Decision(True, verdict.notes)
        values = verdict.asked.intermediate_values
        if not math.isfinite(values[max(values)]):
            return Decision(False, evidence=evidence_of_no_number(self._spec, verdict.asked))
        rows.ask(verdict.asked)
        return Decision(False, verdict.notes, evidence(self._spec, study, verdict.asked))

    def _notes(self, number: int) -> dict[str, Any]:
        known = self._history.trial(number)
        return {} if known is None else dict(known.system_attrs)

    def _first_new_note(self, number: int, verdict: Verdict, peers: Mapping[int, FrozenTrial]) -> dict[str, Any]:
        """Of what the pruner notes, the first thing that the others do not see yet: the lowest rung."""
        seen = peers[number].system_attrs if number in peers else self._notes(number)
        return dict([(key, note) for key, note in verdict.notes.items() if key not in seen][:1])

    def _noting(self, number: int, values: Mapping[int, float], peers: Mapping[int, FrozenTrial], note: Mapping[str, Any]) -> FrozenTrial:
        notes = peers[number].system_attrs if number in peers else self._notes(number)
        return running_trial(number, _finite(values), {**notes, **note})


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {step: value for step, value in sorted(values.items()) if math.isfinite(value)}
