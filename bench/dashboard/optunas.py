"""Writes the same trials to an Optuna database, for optuna-dashboard."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from sqlalchemy import make_url

from bench.dashboard.trials import NAMES, SPACE, Made, made
from search_spaces import Categorical
from service.domain.states import TrialState
from service.search.distributions import distribution_of

STATES = {TrialState.COMPLETE: "COMPLETE", TrialState.PRUNED: "PRUNED", TrialState.FAILED: "FAIL"}
TABLES = {
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_values": ("trial_id", "objective", "value", "value_type"),
    "trial_intermediate_values": ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
}
Row = tuple[Any, ...]


def make(url: str, trials: int = 2_000, steps: int = 200, metrics: int = 4, name: str = "dashboard") -> None:
    """Create an Optuna study in the SQLite file at `url`. Optuna stores one value per step; other metrics become user attributes."""
    study = optuna.create_study(storage=optuna.storages.RDBStorage(url), study_name=name, direction="maximize")
    number = study._study_id
    with sqlite3.connect(str(make_url(url).database)) as connection:
        found = list(made(trials, steps, metrics, 1.7e9))
        for table, rows in (
            ("trials", _trials(found, number)), ("trial_params", _params(found)), ("trial_values", _values(found)),
            ("trial_intermediate_values", _curves(found)), ("trial_user_attributes", _attributes(found)),
        ):  # fmt: skip
            columns = TABLES[table]
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608 - constants
    connection.close()


def _trials(found: Iterable[Made], study: int) -> Iterator[Row]:
    for one in found:
        yield one.number + 1, one.number, study, STATES[one.state], _time(one.started_at), _time(one.finished_at)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _params(found: Iterable[Made]) -> Iterator[Row]:
    known = {
        name: CategoricalDistribution(one.choices) if isinstance(one, Categorical) else distribution_of(one)
        for name, one in SPACE.root.items()
    }
    texts = {name: distribution_to_json(one) for name, one in known.items()}
    for one in found:
        for name, value in one.params.items():
            yield one.number + 1, name, known[name].to_internal_repr(value), texts[name]


def _values(found: Iterable[Made]) -> Iterator[Row]:
    for one in found:
        if one.state is not TrialState.FAILED:
            yield one.number + 1, 0, one.metrics()[NAMES[0]], "FINITE"


def _curves(found: Iterable[Made]) -> Iterator[Row]:
    for one in found:
        for step, value in enumerate(one.curves[NAMES[0]].tolist(), 1):
            sound = value == value
            yield one.number + 1, step, value if sound else None, "FINITE" if sound else "NAN"


def _attributes(found: Iterable[Made]) -> Iterator[Row]:
    for one in found:
        for name, value in one.metrics().items():
            yield one.number + 1, name, json.dumps(value)
