"""Reads a study from an SQLite database of Optuna, and converts it to the lines of an export file, or its space to that of a study file.

Never writes to the database.
"""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.spec import MAX_TRIALS, StudySpec
from service.domain.states import TrialState
from service.search.optuna_export import FACTS, METRIC, NOTED, PARAMS, PREFIX, SPEC
from service.search.optuna_private import study_key
from service.study_io.export import WORDS, LineDocument, worded
from service.study_io.format import CHUNK_STEPS, LAST_YEAR, MAX_STEP, moment_text
from service.study_io.import_ import fit
from service.study_io.other_tools import ForeignSearch

MAX_BYTES = 2 * 1024**3
MAX_VALUES = 2_000_000
MAX_CHARACTERS = 100_000_000  # in all columns of all tables
MAX_VALUE_BYTES = 10_000_000  # of one value or SQL expression
MOST_NAMED = 10
TABLES = frozenset({"studies", "study_directions", "trials", "trial_params", "trial_values", "trial_intermediate_values", "version_info"})
NOT_OPTUNAS = "this is not an SQLite database of Optuna; give the file of an `optuna.storages.RDBStorage`"
STATES: Mapping[OptunaState, TrialState] = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
    OptunaState.WAITING: TrialState.QUEUED,
}


@dataclass(frozen=True, slots=True)
class OptunaStudy:
    """A study as Optuna stores it."""

    name: str
    direction: str
    notes: Mapping[str, Any]
    trials: Sequence[FrozenTrial]

    @property
    def is_ours(self) -> bool:
        """Whether `write_database` wrote it."""
        return SPEC in self.notes


def read_database(file: Path, name: str | None = None) -> OptunaStudy:
    """The study of that name, or the only one of the database. Raises InvalidInput."""
    _refuse_others(file)
    with _storage(file) as storage:
        try:
            return _read(storage, name)
        except (InvalidInput, KeyboardInterrupt):
            raise
        except Exception as error:  # the file is not trusted, and Optuna may raise anything for unexpected contents
            refuse(("file",), "unreadable", f"Optuna cannot read this study: {type(error).__name__}; {NOT_OPTUNAS}", error)


def refuse(place: tuple[str, ...], code: str, message: str, cause: Exception | None = None) -> NoReturn:
    """Raises InvalidInput."""
    raise InvalidInput([Fault(place, code, message)]) from cause


def _refuse_others(file: Path) -> None:
    """Raises InvalidInput for a file that is too large, not a database of Optuna, or expensive to read."""
    # Optuna loads all values into memory, so limits are checked with SQL before it opens the file.
    try:
        if file.stat().st_size > MAX_BYTES:
            refuse(("file",), "too_many_bytes", f"at most {MAX_BYTES} bytes are read; export fewer studies")
        connection = _open(file)
    except OSError as error:
        refuse(("file",), "unreadable", f"the file cannot be read: {error.strerror}")
    try:
        found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if found >= TABLES:
            _refuse_computed(connection, found)
            _refuse_many_rows(connection)
            _refuse_long_texts(connection, found)
    except sqlite3.Error as error:
        refuse(("file",), "not_optunas", NOT_OPTUNAS, error)
    finally:
        connection.close()
    if not found >= TABLES:
        refuse(("file",), "not_optunas", NOT_OPTUNAS)


def _refuse_computed(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Raises InvalidInput for computed columns and virtual tables, by which a small file can produce unlimited values."""
    virtual = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND lower(sql) LIKE 'create virtual%'"
    computed = "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden <> 0"
    if connection.execute(virtual).fetchone()[0] or any(connection.execute(computed, (one,)).fetchone()[0] for one in tables):
        refuse(
            ("file",),
            "computed_values",
            f"the database has computed columns or virtual tables, which Optuna does not create; {NOT_OPTUNAS}",
        )


def _refuse_long_texts(connection: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Raises InvalidInput if all columns together hold more than MAX_CHARACTERS."""
    # The size of the file is no bound: in a crafted file, several rows can share the pages of one text.
    total = 0
    for table in sorted(tables):
        for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall():
            quoted = [name.replace('"', '""') for name in (column, table)]
            total += connection.execute('SELECT coalesce(sum(length("{}")), 0) FROM "{}"'.format(*quoted)).fetchone()[0]  # noqa: S608
    if total > MAX_CHARACTERS:
        refuse(("file",), "too_large", f"the database has more than {MAX_CHARACTERS} characters; copy one study with `optuna.copy_study`")


def _refuse_many_rows(connection: sqlite3.Connection) -> None:
    """Raises InvalidInput for too many trials or values: Optuna loads a whole study, with about a kilobyte of memory per value."""
    for table, most in (("trials", MAX_TRIALS), ("trial_intermediate_values", MAX_VALUES)):
        if connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > most:  # noqa: S608  (fixed names)
            refuse(
                ("file",), "too_large", f"the database has more than {most} rows in {table}; copy one study out with `optuna.copy_study`"
            )


def _open(file: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise OSError(0, str(error)) from error
    # The file is not trusted: its schema must not call unsafe functions, return huge values or attach other databases.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    return connection


@contextmanager
def _storage(file: Path) -> Iterator[RDBStorage]:
    """Optuna's storage over read-only connections to the file. Raises InvalidInput for tables of another version of Optuna."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        try:
            storage = RDBStorage("sqlite://", engine_kwargs={"creator": lambda: _open(file)}, skip_table_creation=True)
        except RuntimeError as error:  # Optuna's error for tables of another version
            other = f"its tables are of another version of Optuna than {optuna.__version__}; run `optuna storage upgrade` on a copy of it"
            refuse(("file",), "other_version", other, error)
        except Exception as error:
            refuse(("file",), "not_optunas", NOT_OPTUNAS, error)
        yield storage
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(verbosity)


def _read(storage: RDBStorage, name: str | None) -> OptunaStudy:
    known = {study.study_name: study for study in storage.get_all_studies()}
    if name is None and len(known) != 1:
        some = ", ".join(ascii(one)[:80] for one in list(known)[:MOST_NAMED])
        refuse(("study",), "which_study", f"the database has {len(known)} studies; choose one with --study" + (f": {some}" * bool(some)))
    chosen = known.get(next(iter(known)) if name is None else name)
    if chosen is None:
        refuse(("study",), "unknown_study", f"none of the {len(known)} studies in the database has this name")
    if len(directions := storage.get_study_directions(study_key(chosen))) != 1:
        several = f"the Optuna study {ascii(chosen.study_name)[:80]} has {len(directions)} objectives, but only one is supported"
        refuse(("study",), "several_objectives", f"{several}; import a study that was created with `direction`")
    return OptunaStudy(
        name=chosen.study_name,
        direction="maximize" if directions[0] is StudyDirection.MAXIMIZE else "minimize",
        notes=dict(chosen.user_attrs),
        trials=storage.get_all_trials(study_key(chosen), deepcopy=False),
    )


def search_of(found: OptunaStudy) -> ForeignSearch:
    """The search that the distributions of the trials define: of each parameter the widest range and all choices. Raises InvalidInput."""
    if found.is_ours:
        refuse((SPEC,), "exported", "Thawline exported this database; bring it back with `thaw study import`")
    source = ForeignSearch("an Optuna study", name=found.name, direction=found.direction)
    by_name: dict[str, list[BaseDistribution]] = {}
    for trial in found.trials:
        for name, distribution in trial.distributions.items():
            by_name.setdefault(name, []).append(distribution)
    for name, all_found in by_name.items():
        _add_parameter(source, name, all_found)
        if len(all_found) < len(found.trials):
            source.change(name, f"{len(all_found)} of {len(found.trials)} trials have it; write `when` if it depends on another parameter")
    source.lose("sampler and pruner", "a database does not have them; the defaults are used")
    source.lose(
        f"{len(found.trials)} trials",
        "they are no part of a study file; bring them with `thaw study import --like`, if the parameters have the same names in both",
    )
    return source


def _add_parameter(source: ForeignSearch, name: str, distributions: Sequence[BaseDistribution]) -> None:
    kinds = {type(one) for one in distributions}
    if len(distinct := {repr(one) for one in distributions}) > 1:
        source.change(name, f"the trials have {len(distinct)} distributions; the widest range and all choices are taken")
    categories = [one.choices for one in distributions if isinstance(one, CategoricalDistribution)]
    ranges = [one for one in distributions if isinstance(one, FloatDistribution | IntDistribution)]
    if kinds == {CategoricalDistribution}:
        choices = {(type(choice), repr(choice)): choice for each in categories for choice in each}
        source.params[name] = {"choices": list(choices.values())}
    elif kinds in ({FloatDistribution}, {IntDistribution}):
        low, high = min(one.low for one in ranges), max(one.high for one in ranges)
        steps, log = {one.step for one in ranges}, any(one.log for one in ranges)
        step = steps.pop() if len(steps) == 1 and not log else None
        kind = "int" if kinds == {IntDistribution} else "float"
        entries = {"type": kind, "low": low, "high": high, "step": step, "log": log or None}
        source.params[name] = {"value": low} if low == high else {part: each for part, each in entries.items() if each is not None}
    else:
        source.lose(name, "the trials have distributions of several types; write type, low and high, or choices")


def spec_in(found: OptunaStudy) -> StudySpec:
    """The spec in a study that `write_database` wrote. Raises InvalidInput."""
    if not isinstance(spec := found.notes[SPEC], dict):
        refuse((SPEC,), "not_a_mapping", "this attribute of the study is not a spec written by an export; give a study file with --like")
    return parse_study(spec)


def documents(found: OptunaStudy, spec: StudySpec, facts: Mapping[str, Any] | None, now: float) -> Iterator[LineDocument]:
    """The lines of the study, in the state paused.

    Raises InvalidInput before the first line if the direction or the parameters do not fit the spec.
    """
    if found.direction != spec.objective.direction:
        mismatch = f"the Optuna study's direction is {found.direction}; choose a metric with this direction"
        refuse(("objective", "direction"), "direction_mismatch", mismatch)
    params = fit(spec, [_params(trial) for trial in found.trials])
    # Steps here count from 1. If any trial reported a step 0, the steps of all trials are shifted by one.
    shift = int(any(0 in trial.intermediate_values for trial in found.trials))
    _refuse_steps(found, shift)
    yield {
        "kind": "thawline/study", "schema_version": 1, "id": None, "name": spec.name, "state": "paused", "reason": None,
        "spec": spec.model_dump(mode="json"), "facts": None if facts is None else dict(facts), "confirmation": None,
        "created": len(found.trials), "created_at": moment_text(now), "started_at": None, "finished_at": None,
    }  # fmt: skip
    for number, trial in enumerate(found.trials):
        yield from _trial(number, trial, params[number], spec.objective.metric, shift, now)


def facts_in(found: OptunaStudy) -> Mapping[str, Any] | None:
    """The facts about the data in a study that `write_database` wrote; None if it has none."""
    facts = found.notes.get(FACTS)
    return facts if isinstance(facts, dict) else None


def _params(trial: FrozenTrial) -> Mapping[str, Any]:
    exact = trial.user_attrs.get(PARAMS)
    return exact if isinstance(exact, dict) else trial.params


def _refuse_steps(found: OptunaStudy, shift: int) -> None:
    steps = [step + shift for trial in found.trials for step in trial.intermediate_values]
    if steps and not 1 <= min(steps) <= max(steps) <= MAX_STEP:
        refuse(("study",), "steps_out_of_range", f"the steps of reported values must lie between 0 and {MAX_STEP - 1}; renumber them")


def _trial(number: int, trial: FrozenTrial, params: LineDocument, metric: str, shift: int, now: float) -> Iterator[LineDocument]:
    """The lines of one trial: the trial with its first reports, then the other reports. `shift` is added to each step."""
    noted = {name: trial.user_attrs[f"{PREFIX}{name}"] for name in NOTED if f"{PREFIX}{name}" in trial.user_attrs}
    values = [(step + shift, worded(value)) for step, value in sorted(trial.intermediate_values.items())]
    state, value, reason = _end(trial, noted, values[-1][1] if values else None)
    last = value if value is not None else values[-1][1] if values else None
    others = {
        name.removeprefix(METRIC): _encoded(each) for name, each in trial.user_attrs.items() if name.startswith(METRIC) and _is_number(each)
    }
    metrics = others | ({} if last is None else {metric: last})
    first, rest = values[:CHUNK_STEPS], [values[at : at + CHUNK_STEPS] for at in range(CHUNK_STEPS, len(values), CHUNK_STEPS)]
    yield {
        "kind": "thawline/trial", "number": number, "state": state, "params": params, "value": value,
        "metrics": metrics, "step": values[-1][0] if values else 0, "attempt": noted.get("attempt", 0), "reason": reason,
        "detail": noted.get("detail", _detail(state)), "worker": noted.get("worker"), "duplicate_of": noted.get("duplicate_of"),
        "source": noted.get("source", "imported"), "confirms": None, "round": None, "result": {},
        "queued_at": _moment(trial.datetime_start) or moment_text(now), "started_at": _moment(trial.datetime_start),
        "finished_at": _moment(trial.datetime_complete), "reports": _reports(metric, first),
    }  # fmt: skip
    for chunk in rest:
        yield {"kind": "thawline/reports", "number": number, **_reports(metric, chunk)}


def _end(trial: FrozenTrial, noted: Mapping[str, Any], last: float | str | None) -> tuple[str, float | str | None, str | None]:
    """State, value and reason. A complete trial without a finite value counts as diverged; a pruned one gets its last value."""
    state, value = STATES[trial.state], None if trial.value is None else worded(trial.value)
    if state is TrialState.COMPLETE and not isinstance(value, float):
        return TrialState.FAILED, value, "diverged"
    if state is TrialState.PRUNED:
        return state, last if value is None else value, None
    if state is TrialState.FAILED:
        cancelled = noted.get("state") == TrialState.CANCELLED
        return (TrialState.CANCELLED, None, None) if cancelled else (state, None, noted.get("reason", "script_error"))
    return state, value, None


def _detail(state: str) -> str | None:
    return "it failed in Optuna" if state == TrialState.FAILED else None


def _is_number(value: object) -> bool:
    return value in WORDS.values() if isinstance(value, str) else isinstance(value, int | float) and not isinstance(value, bool)


def _encoded(number: float | str) -> float | str:
    """The number as it is written in a line: "nan", "pos_inf" or "neg_inf" if it is not finite or too large for a float."""
    try:
        return number if isinstance(number, str) else worded(float(number))
    except OverflowError:
        return worded(math.inf if isinstance(number, int) and number > 0 else -math.inf)


def _reports(metric: str, values: Sequence[tuple[int, float | str]]) -> LineDocument:
    return {"steps": [step for step, _ in values], "metrics": {metric: [value for _, value in values]} if values else {}}


def _moment(local: datetime | None) -> str | None:
    return moment_text(local.timestamp()) if local is not None and 1971 <= local.year < LAST_YEAR else None
