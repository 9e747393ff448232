"""Trials as columns of numbers, so that they are ranked and picked without a loop."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from service.search.history import CONSTRAINT, INFEASIBLE
from service.search.parzen import Array

Rows = NDArray[np.intp]

ABSENT, COMPLETE, PRUNED, HOPELESS, RUNNING = range(5)
STATES = {TrialState.COMPLETE: COMPLETE, TrialState.PRUNED: PRUNED, TrialState.RUNNING: RUNNING}


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of good trials and of all others, each by number."""

    below: Rows
    above: Rows


class Columns:
    """A row a trial, found by its number; NaN where a parameter was inactive. `sign` turns values into losses."""

    def __init__(self, names: tuple[str, ...], sign: float) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        self._sign = sign
        self._values = np.full((64, len(names)), np.nan)
        self._states = np.full(64, ABSENT, dtype=np.int8)
        self._losses = np.full(64, np.nan)
        self._steps = np.zeros(64, dtype=np.int64)
        self.shapes: set[tuple[str, ...]] = set()  # which parameters finished trials had

    @property
    def finished(self) -> int:
        """How many trials a model can be made from."""
        return int(np.isin(self._states, (COMPLETE, PRUNED, HOPELESS)).sum())

    def put(self, trial: FrozenTrial) -> None:
        """The trial as it stands now."""
        self._make_room(trial.number)
        state = HOPELESS if trial.system_attrs.get(CONSTRAINT) == INFEASIBLE else STATES.get(trial.state, ABSENT)
        step, value = max(trial.intermediate_values.items(), default=(0, np.inf * self._sign))
        row = trial.number
        self._states[row] = state
        self._steps[row] = step
        self._losses[row] = self._sign * (trial.value if state == COMPLETE and trial.value is not None else value)
        self._values[row] = np.nan
        for name, number in trial.params.items():
            self._values[row, self._places[name]] = number
        if state in (COMPLETE, PRUNED, HOPELESS):
            self.shapes.add(tuple(sorted(trial.params)))

    def split(self, good: int, with_running: bool) -> Split:
        """The `good` best: complete ones by loss, then pruned ones by how far they got, then infeasible ones by number."""
        complete, pruned, hopeless = (self._rows(state) for state in (COMPLETE, PRUNED, HOPELESS))
        complete = complete[np.argsort(self._losses[complete], kind="stable")]
        pruned = pruned[np.lexsort((self._losses[pruned], -self._steps[pruned]))]
        ranked = np.concatenate([complete, pruned, hopeless])
        running = self._rows(RUNNING) if with_running else ranked[:0]
        return Split(np.sort(ranked[:good]), np.sort(np.concatenate([ranked[good:], running])))

    def _rows(self, state: int) -> Rows:
        return np.flatnonzero(self._states == state)

    def observations(self, rows: Rows, names: Iterable[str]) -> Array:
        """The values of these parameters in the rows that have them all, shape (rows, parameters)."""
        found = self._values[rows][:, [self._places[name] for name in names]]
        complete: Array = found[~np.isnan(found).any(axis=1)]
        return complete

    def _make_room(self, number: int) -> None:
        if (missing := number + 1 - len(self._states)) > 0:
            more = max(missing, len(self._states))
            self._values = np.concatenate([self._values, np.full((more, len(self._places)), np.nan)])
            self._states = np.concatenate([self._states, np.full(more, ABSENT, dtype=np.int8)])
            self._losses = np.concatenate([self._losses, np.full(more, np.nan)])
            self._steps = np.concatenate([self._steps, np.zeros(more, dtype=np.int64)])
