"""Decisions about running trials: Optuna's pruner gives the verdict, the reasons are ours."""

import math
from collections.abc import Mapping
from typing import Any

import optuna

from service.domain.samplers import NoPruner
from service.domain.spec import StudySpec
from service.search.answers import Decision
from service.search.history import History
from service.search.pruners import pruner_for
from service.search.reasons import reason
from service.search.rows import Rows, RowsForPruners, running_trial


class Pruning:
    """A study's pruner. A decision follows from the history and the trial's own values, nothing else."""

    def __init__(self, spec: StudySpec, history: History) -> None:
        self._spec = spec
        self._history = history
        self._pruner = pruner_for(spec.pruner, spec.epochs)
        self._name = str(spec.sampler.seed)  # Optuna's Hyperband finds a trial's bracket from the study's name and the number

    def decide(self, number: int, values: Mapping[int, float]) -> Decision:
        """Whether the trial goes on after its newest step. A value that is not finite ends it under every pruner but `none`."""
        if isinstance(self._spec.pruner, NoPruner) or not values:
            return Decision(go_on=True)
        newest = max(values)
        if not math.isfinite(values[newest]):
            return Decision(go_on=False, why=f"{self._spec.objective.metric} is {values[newest]} at step {newest}.")
        study, rows = self._study(number, {step: value for step, value in sorted(values.items()) if math.isfinite(value)})
        pruned = self._pruner.prune(study, rows.asked)
        return Decision(not pruned, rows.trial_notes, reason(self._spec, study, rows.asked) if pruned else None)

    def _study(self, number: int, values: dict[int, float]) -> tuple[optuna.Study, Rows]:
        known = self._history.trial(number)
        notes: dict[str, Any] = dict(known.system_attrs) if known is not None else {}
        rows = RowsForPruners(self._history, self._name, running_trial(number, values, notes))
        return optuna.Study(self._name, rows, pruner=self._pruner), rows
