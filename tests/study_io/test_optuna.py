"""Studies to and from Optuna's databases."""

import io
import json
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest

from search_spaces import Fault
from service import operations
from service.domain.errors import InvalidInput
from service.domain.parsing import parse_study
from service.domain.records import Study
from service.operations import Searches
from service.operations.importing import import_study
from service.search import optuna_import
from service.search.optuna_export import write_database
from service.search.optuna_import import TABLES, documents, facts_in, read_database, spec_in
from service.store import Store, queries
from service.store.codec import kind_of
from service.study_io.export import StudyLines
from service.study_io.import_ import Header, checked, sound
from tests.study_io.luggage import confirmed_study, exported, mixed_study
from tests.web.laboratory import FACTS, Laboratory, study_document

optuna.logging.set_verbosity(optuna.logging.WARNING)


def to_optuna(store: Store, study: Study, file: Path) -> int:
    found = checked(io.BytesIO(exported(store, study)))
    header = next(found)
    assert isinstance(header, Header)
    return write_database(file, header, (line for line in found if not isinstance(line, Header)))


def from_optuna(store: Store, file: Path, name: str, like: dict[str, Any] | None = None, theirs: str | None = None) -> Study:
    arrived = read_database(file, theirs)
    spec = spec_in(arrived) if like is None else parse_study(like)
    lines = StudyLines()
    raw = b"".join(lines.line(one) for one in documents(arrived, spec, facts_in(arrived) if like is None else None, 1.7e9))
    sent = io.BytesIO(raw + lines.end())
    return import_study(store, sound(sent, name), sent, paused=True)


def faults_of(call: Callable[[], object]) -> list[Fault]:
    with pytest.raises(InvalidInput) as refused:
        call()
    return list(refused.value.faults)


def test_optuna_reads_what_we_export(embedded_store: Store, tmp_path: Path) -> None:
    study = mixed_study(embedded_store)
    operations.stop_study(embedded_store, study.id)
    to_optuna(embedded_store, study, tmp_path / "it's.db")
    theirs = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path / chr(105)}t's.db")
    ours = embedded_store.read(queries.trials, study.id)
    assert [trial.state.name for trial in theirs.trials] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "FAIL", "FAIL"]
    assert [trial.params for trial in theirs.trials] == [trial.params for trial in ours]
    assert theirs.best_value == 0.91
    assert theirs.trials[0].distributions["lr"] == optuna.distributions.FloatDistribution(1e-5, 0.1, log=True)
    assert theirs.trials[1].intermediate_values.keys() == {1, 2, 3}
    assert theirs.trials[2].user_attrs["thawline:source"] == "sampler"
    assert theirs.user_attrs["thawline:spec"] == study.spec.model_dump(mode="json")
    assert theirs.metric_names == ["accuracy"]


def test_a_study_that_went_to_optuna_comes_back_paused_with_its_spec(store: Store, tmp_path: Path) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    to_optuna(store, study, tmp_path / "optuna.db")
    back = from_optuna(store, tmp_path / "optuna.db", "digits again")
    assert back.state == "paused"
    assert back.spec.model_copy(update={"name": "digits"}) == study.spec
    assert back.facts == study.facts
    kept = ("number", "state", "params", "value", "value_kind", "step", "reason", "detail", "source", "worker", "attempt", "duplicate_of")
    there, here = store.read(queries.trials, study.id), store.read(queries.trials, back.id)
    for before, after in zip(there, here, strict=True):
        changed = [name for name in kept if getattr(before, name) != getattr(after, name)]
        assert changed == ([] if before.reason != "diverged" else ["value_kind"]), (before, after)


def like(**changes: Any) -> dict[str, Any]:
    return study_document(**{"name": "like", "sampler": {"name": "tpe", "seed": 0}, **changes})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("theirs") / "theirs.db"
    foreign(file, 12)
    return file


@pytest.fixture
def theirs(made: Path, tmp_path: Path) -> Path:
    """A database with a study of 12 trials that somebody made with Optuna alone."""
    return Path(shutil.copyfile(made, tmp_path / "theirs.db"))


def foreign(file: Path, trials: int, name: str = "theirs", direction: Literal["minimize", "maximize"] = "maximize") -> None:
    """Add a study with trials of each kind; their steps begin at 0."""
    study = optuna.create_study(storage=f"sqlite:///{file}", study_name=name, direction=direction, sampler=optuna.samplers.RandomSampler(0))
    for number in range(trials):
        trial = study.ask()
        lr, optimizer = trial.suggest_float("lr", 1e-4, 0.05, log=True), trial.suggest_categorical("optimizer", ["sgd", "adam"])
        for step in range(3):
            trial.report(lr * step, step)
        if number % 4 == 3:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number == 5:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, lr + (optimizer == "sgd"))


def test_a_foreign_study_becomes_a_warm_start(store: Store, theirs: Path) -> None:
    before = theirs.read_bytes()
    study = from_optuna(store, theirs, "like", like())
    assert theirs.read_bytes() == before
    assert (study.state, study.created, study.facts) == ("paused", 12, None)
    trials = store.read(queries.trials, study.id)
    assert [trial.state for trial in trials[:6]] == ["complete", "complete", "complete", "pruned", "complete", "failed"]
    assert {trial.source for trial in trials} == {"imported"}
    assert [metric.step for metric in store.read(queries.metrics, trials[0].id)] == [1, 2, 3]
    operations.resume_study(store, study.id)
    searches = Searches()
    with searches.for_study(store, store.read(queries.find_study, study.id)) as memory:
        assert memory.created == 12
        known = memory.search._history.trials
        assert [trial.value for trial in known if trial.state.name == "COMPLETE"] == [
            one.value for one in trials if one.state == "complete"
        ]
        assert known[3].intermediate_values.keys() == {1, 2, 3}
    laboratory = Laboratory(store, searches)
    operations.pass_check(store, study.id, FACTS)
    claim = laboratory.claim()
    assert claim.lease.number == 12


def test_a_baseline_is_queued_behind_what_came_from_optuna(embedded_store: Store, theirs: Path) -> None:
    study = from_optuna(embedded_store, theirs, "like", like(baseline={"optimizer": "adam"}))
    last = embedded_store.read(queries.find_trial, study.id, 12)
    assert (last.source, last.state, study.created) == ("baseline", "queued", 13)


def test_parameters_that_do_not_fit_are_named_all_at_once_with_the_remedy(theirs: Path) -> None:
    space = {
        "lr": {"type": "float", "low": 1e-3, "high": 0.02, "log": True},
        "batch_size": {"type": "categorical", "choices": [16, 32]},
    }
    spec = parse_study(like(search_space=space))
    faults = faults_of(lambda: next(documents(read_database(theirs), spec, None, 1e9)))
    reported = {(fault.pointer, fault.code): fault.message for fault in faults}
    assert reported.keys() == {
        ("#/search_space/batch_size", "missing_parameter"),
        ("#/search_space/lr", "out_of_range"),
        ("#/search_space/optimizer", "unknown_parameter"),
    }
    assert "12 of 12 trials" in reported["#/search_space/batch_size", "missing_parameter"]
    assert "the values range from 0.0" in reported["#/search_space/lr", "out_of_range"]


def test_what_is_fixed_at_the_value_that_all_trials_had_fits(embedded_store: Store, tmp_path: Path) -> None:
    theirs = optuna.create_study(storage=f"sqlite:///{tmp_path / 'theirs.db'}", direction="maximize")
    for lr in (0.01, 0.02):
        trial = theirs.ask({"lr": optuna.distributions.FloatDistribution(lr, lr), "epochs": optuna.distributions.FloatDistribution(3, 3)})
        theirs.tell(trial, lr)
    space = {"lr": {"type": "float", "low": 0.001, "high": 0.1}}
    study = from_optuna(embedded_store, tmp_path / "theirs.db", "like", like(search_space=space))
    assert [trial.params for trial in embedded_store.read(queries.trials, study.id)] == [{"lr": 0.01}, {"lr": 0.02}]


def test_a_study_that_is_turned_the_other_way_round_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path / "theirs.db", 1, direction="minimize")
    (fault,) = faults_of(lambda: next(documents(read_database(tmp_path / "theirs.db"), parse_study(like()), None, 1e9)))
    assert (fault.pointer, fault.code) == ("#/objective/direction", "direction_mismatch")


def test_a_study_of_several_objectives_is_refused_by_its_name(tmp_path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'theirs.db'}", study_name="both", directions=["minimize", "maximize"])
    (fault,) = faults_of(lambda: read_database(tmp_path / "theirs.db"))
    assert fault.code == "several_objectives" and "'both' has 2 objectives" in fault.message


def test_of_several_studies_one_must_be_named(tmp_path: Path) -> None:
    foreign(tmp_path / "theirs.db", 1, "first")
    foreign(tmp_path / "theirs.db", 2, "second")
    (fault,) = faults_of(lambda: read_database(tmp_path / "theirs.db"))
    assert fault.code == "which_study" and "'first', 'second'" in fault.message
    assert len(read_database(tmp_path / "theirs.db", "second").trials) == 2
    assert faults_of(lambda: read_database(tmp_path / "theirs.db", "third"))[0].code == "unknown_study"


def test_what_is_no_database_of_optunas_is_refused(embedded_store: Store, tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    ours = embedded_store.file
    assert ours is not None
    with sqlite3.connect(tmp_path / "views.db") as views:  # what looks like tables and computes for ever
        for table in TABLES:
            views.execute(f"CREATE VIEW {table} AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n")  # noqa: S608
    views.close()
    for file in (tmp_path / "noise.db", ours, tmp_path / "views.db", tmp_path / "missing.db"):
        assert faults_of(lambda file=file: read_database(file))[0].code in ("not_optunas", "unreadable")  # type: ignore[misc]
    assert not (tmp_path / "missing.db").exists()


def test_a_damaged_distribution_is_no_crash(theirs: Path) -> None:
    with sqlite3.connect(theirs) as connection:
        connection.execute('UPDATE trial_params SET distribution_json = \'{"name": "os.system", "attributes": {}}\' WHERE param_id = 3')
    connection.close()
    assert faults_of(lambda: read_database(theirs))[0].code == "unreadable"


def test_trials_of_the_confirmation_stay_out_of_optuna(embedded_store: Store, tmp_path: Path) -> None:
    study = confirmed_study(embedded_store)
    left_out = to_optuna(embedded_store, study, tmp_path / "optuna.db")
    theirs = optuna.load_study(study_name="digits", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert len(theirs.trials) == 3 and left_out == theirs.user_attrs["thawline:confirmation_trials"] > 0


def test_choices_that_optuna_takes_for_one_another_come_back_as_they_were(embedded_store: Store, tmp_path: Path) -> None:
    lab = Laboratory(embedded_store)
    study = lab.study(
        search_space={"momentum": {"type": "categorical", "choices": [0, 0.0, 0.5]}, "lr": {"type": "float", "low": 0.1, "high": 1.0}}
    )
    operations.enqueue_trials(embedded_store, study.id, [{"momentum": 0.0, "lr": 1}, {"momentum": 0, "lr": 0.5}])
    operations.stop_study(embedded_store, study.id)
    to_optuna(embedded_store, study, tmp_path / "optuna.db")
    back = from_optuna(embedded_store, tmp_path / "optuna.db", "digits again")
    there, here = ([trial.params for trial in embedded_store.read(queries.trials, one.id)] for one in (study, back))
    assert repr(here) == repr(there)


def test_optunas_dashboard_reads_it(embedded_store: Store, tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    study = mixed_study(embedded_store)
    to_optuna(embedded_store, operations.stop_study(embedded_store, study.id), tmp_path / "optuna.db")
    app = dashboard.wsgi(f"sqlite:///{tmp_path / 'optuna.db'}")
    reported: list[str] = []

    def start(status: str, *_: object) -> None:
        reported.append(status)

    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies/1", "wsgi.input": io.BytesIO(), "QUERY_STRING": "", "SERVER_NAME": "x"}
    body = json.loads(b"".join(app({**request, "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.errors": io.StringIO()}, start)))
    assert reported == ["200 OK"] and len(body["trials"]) == study.created and body["name"] == "digits"


def optunas(tmp_path: Path) -> Path:
    """A database of Optuna's with one study of one trial."""
    file = tmp_path / "theirs.db"
    study = optuna.create_study(storage=f"sqlite:///{file}", study_name="theirs", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("lr", 1e-4, 0.1), n_trials=1)
    return file


def test_computed_columns_and_virtual_tables_are_refused(tmp_path: Path) -> None:
    file = optunas(tmp_path)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE trial_user_attributes")
        database.execute(
            "CREATE TABLE trial_user_attributes (trial_user_attribute_id INTEGER, trial_id INTEGER, key TEXT,"
            " value_json TEXT GENERATED ALWAYS AS ('\"' || hex(zeroblob(100000000)) || '\"'))"
        )
        database.execute("INSERT INTO trial_user_attributes VALUES (1, 1, 'a')")
    tracemalloc.start()
    (fault,) = faults_of(lambda: read_database(file))
    assert fault.code == "computed_values" and tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_texts_that_are_long_together_or_alone_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = optunas(tmp_path)
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'long', ?)", ('"' + "x" * 50_000 + '"',))
    assert read_database(file).name == "theirs"
    monkeypatch.setattr(optuna_import, "MAX_CHARACTERS", 40_000)
    assert [fault.code for fault in faults_of(lambda: read_database(file))] == ["too_large"]
    monkeypatch.setattr(optuna_import, "MAX_VALUE_BYTES", 30_000)
    monkeypatch.setattr(optuna_import, "MAX_CHARACTERS", 10**9)
    assert [fault.code for fault in faults_of(lambda: read_database(file))] in (["unreadable"], ["not_optunas"])


@pytest.mark.parametrize(
    ("stored", "reported"), [("NaN", "nan"), ("Infinity", "pos_inf"), ("1" + "0" * 400, "pos_inf"), ("-1" + "0" * 400, "neg_inf")]
)
def test_an_attribute_that_is_no_finite_number_becomes_its_word(embedded_store: Store, tmp_path: Path, stored: str, reported: str) -> None:
    file = optunas(tmp_path)
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'metric:loss', ?)", (stored,))
    like = study_document("theirs", search_space={"lr": {"type": "float", "low": 1e-4, "high": 0.1}})
    study = from_optuna(embedded_store, file, "theirs", like)
    trial = embedded_store.read(queries.find_trial, study.id, 0)
    assert str(kind_of(trial.metrics["loss"])) == reported
