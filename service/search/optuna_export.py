"""Exports a study as an Optuna database."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search_spaces import Categorical, SearchSpace
from service.domain.records import CONFIRMATION
from service.domain.states import TrialState
from service.search.distributions import distribution_of
from service.study_io.format import ReportColumns, ReportsLine, TrialLine
from service.study_io.import_ import Header

PREFIX = "thawline:"
SPEC = f"{PREFIX}spec"
FACTS = f"{PREFIX}facts"
LEFT_OUT = f"{PREFIX}confirmation_trials"
PARAMS = f"{PREFIX}params"
METRIC = "metric:"  # prefix of the attributes that hold the last value of each metric
METRIC_NAMES = "study:metric_names"  # a system attribute of Optuna
NOTED = ("number", "state", "source", "reason", "detail", "attempt", "worker", "duplicate_of")
"""Fields of a trial that are stored as user attributes `thawline:<field>`."""

STATES: Mapping[TrialState, OptunaState] = {
    TrialState.QUEUED: OptunaState.WAITING,
    TrialState.RUNNING: OptunaState.RUNNING,
    TrialState.PAUSED: OptunaState.RUNNING,
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.CANCELLED: OptunaState.FAIL,
}


TrialDistributions = Mapping[str, BaseDistribution]

KINDS = {"nan": "NAN", "pos_inf": "INF_POS", "neg_inf": "INF_NEG"}
NOTES = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
CURVES = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?)"


def write_database(file: Path, header: Header, lines: Iterable[TrialLine | ReportsLine]) -> int:
    """Write the study to a new database. Returns the number of confirmation trials, which are left out.

    In Optuna, confirmation trials could not be told apart from those of the search. Optuna stores one value per step, which is the
    objective; the last values of the other metrics become user attributes.
    """
    spec, left_out = header.spec, 0
    direction = StudyDirection.MAXIMIZE if spec.objective.direction == "maximize" else StudyDirection.MINIMIZE
    with _storage(file) as storage, closing(_connect(file)) as beside:
        study = storage.create_new_study([direction], spec.name)
        storage.set_study_user_attr(study, SPEC, spec.model_dump(mode="json"))
        storage.set_study_user_attr(study, FACTS, None if header.line.facts is None else header.line.facts.model_dump(mode="json"))
        storage.set_study_system_attr(study, METRIC_NAMES, [spec.objective.metric])
        space, key = _distributions(spec.search_space), None
        for line in lines:
            if isinstance(line, TrialLine):
                key = None if line.source == CONFIRMATION else storage.create_new_trial(study, _frozen(line, space))
                left_out += key is None
            if key is not None:
                _fill(beside, key, line, spec.objective.metric, space)
        storage.set_study_user_attr(study, LEFT_OUT, left_out)
    return left_out


def _connect(file: Path) -> sqlite3.Connection:
    """A connection to a new database that no other process uses."""
    connection = sqlite3.connect(file)
    # The caller discards an incomplete file, so commits need not wait for the disk.
    connection.execute("PRAGMA synchronous = OFF")
    return connection


@contextmanager
def _storage(file: Path) -> Iterator[RDBStorage]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = RDBStorage(f"sqlite:///{file}", engine_kwargs={"creator": lambda: _connect(file)})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(verbosity)


def _distributions(space: SearchSpace) -> TrialDistributions:
    """Distributions with the choices themselves, unlike those of a search, which have their indices."""
    return {
        name: CategoricalDistribution(one.choices) if isinstance(one, Categorical) else distribution_of(one)
        for name, one in space.parameters.items()
    }


def _fill(database: sqlite3.Connection, key: int, line: TrialLine | ReportsLine, metric: str, space: TrialDistributions) -> None:
    """Add the curve and the attributes of a trial."""
    # Written with SQL, because Optuna's storage queries the trial for each value and takes minutes for a large study.
    reports = line.reports if isinstance(line, TrialLine) else line
    if isinstance(line, TrialLine):
        database.executemany(NOTES, [(key, name, json.dumps(value)) for name, value in _notes(line, space).items()])
    database.executemany(CURVES, _rows(key, reports, metric))
    database.commit()


def _frozen(line: TrialLine, distributions: TrialDistributions) -> FrozenTrial:
    value = line.value if isinstance(line.value, float) else None
    state = STATES[line.state]
    params = _params(line, distributions)
    started_at, finished_at = line.started_at or line.queued_at, line.finished_at or line.queued_at
    return FrozenTrial(
        number=line.number, trial_id=line.number, state=state, params=params,
        value=value if state in (OptunaState.COMPLETE, OptunaState.PRUNED) else None,
        distributions={name: distributions[name] for name in params}, intermediate_values={},
        user_attrs={}, system_attrs={},
        datetime_start=_local(started_at), datetime_complete=_local(finished_at) if state.is_finished() else None,
    )  # fmt: skip


def _params(line: TrialLine, distributions: TrialDistributions) -> dict[str, Any]:
    return {name: _within(each, line.params[name]) for name, each in distributions.items() if name in line.params}


def _within(distribution: BaseDistribution, value: Any) -> Any:
    """The value clipped to Optuna's range, which rounding of the last step may exceed."""
    return min(max(float(value), distribution.low), distribution.high) if isinstance(distribution, FloatDistribution) else value


def _notes(line: TrialLine, distributions: TrialDistributions) -> dict[str, Any]:
    params = _params(line, distributions)
    noted = {f"{PREFIX}{name}": value for name in NOTED if (value := getattr(line, name)) is not None}
    kept = {name: each.to_external_repr(each.to_internal_repr(params[name])) for name, each in distributions.items() if name in params}
    exact = {name: (type(value), value) for name, value in line.params.items()}
    if {name: (type(value), value) for name, value in kept.items()} != exact:  # Optuna takes 1, 1.0 and True for the same
        noted[PARAMS] = dict(line.params)
    return noted | {f"{METRIC}{name}": value for name, value in line.metrics.items()}


def _rows(key: int, reports: ReportColumns, objective: str) -> Iterator[tuple[int, int, float | None, str]]:
    for step, value in zip(reports.steps, reports.metrics.get(objective, ()), strict=False):
        if value is not None:
            kind = KINDS[value] if isinstance(value, str) else "FINITE"
            yield key, step, None if isinstance(value, str) else value, kind


def _local(seconds: float) -> datetime:
    """A naive local time, which is what Optuna stores."""
    return datetime.fromtimestamp(seconds)
