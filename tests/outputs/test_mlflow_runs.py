"""Trials as runs of MLflow, read from a tracking store by MLflow itself: whole, once, over restarts, kills and outages."""

import importlib.util
import json
import math
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.confirmation.recommendation import exported_of
from service.domain.errors import InvalidInput
from service.domain.states import TrialState
from service.outputs import configured, following
from service.outputs.configured import sinks_of
from service.outputs.following import EventBlock, EventRefused, Undelivered
from service.outputs.mlflow_runs import STUDY_TAG, TRIAL_TAG, MlflowRuns, MlflowSink, checked_uri
from service.outputs.mlflow_runs import _name as mlflow_name
from service.settings import Settings
from service.store import Store, queries
from tests.outputs.receiver import wait_until
from tests.outputs.test_following import following as follow
from tests.study_io.luggage import mixed_study
from tests.web.laboratory import Laboratory
from tests.web.server import running
from tests.web.test_best import confirm_all, searched

pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning",  # MLflow's models, with SQLAlchemy 2.1
    "ignore::ResourceWarning",  # MLflow keeps connections until they are collected
)
LEASE_SECONDS = "1.5"
TRIALS = 15
Curve = list[tuple[int, float]]


@pytest.fixture(scope="session")
def tracking_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store without runs; making its tables takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowRuns(f"sqlite:///{file}")._client.search_experiments()
    return file


@pytest.fixture
def tracking(tracking_store: Path, tmp_path: Path) -> "Tracking":
    (tmp_path / "tracking").mkdir()
    return Tracking(Path(shutil.copy(tracking_store, tmp_path / "tracking")))


class Tracking:
    """A tracking store, read by MLflow's client."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.uri = f"sqlite:///{file}"
        self.client: Any = MlflowRuns(self.uri)._client

    def experiment(self, study: str) -> Any:
        [found] = self.client.search_experiments(filter_string=f"tags.`{STUDY_TAG}` = '{study}'")
        return found

    def runs(self, study: str) -> dict[str, Any]:
        """The runs by trial; each trial has one."""
        found = self.client.search_runs([self.experiment(study).experiment_id], max_results=1000)
        counted = Counter(one.data.tags[TRIAL_TAG] for one in found)
        assert set(counted.values()) <= {1}, counted
        return {one.data.tags[TRIAL_TAG]: one for one in found}

    def curve(self, run: Any, metric: str) -> Curve:
        return [(one.step, one.value) for one in self.client.get_metric_history(run.info.run_id, metric)]

    def text(self, run: Any, name: str, folder: Path) -> str:
        return Path(self.client.download_artifacts(run.info.run_id, name, str(folder))).read_text()


def deliver(store: Store, sink: MlflowSink, *, advance: bool = True) -> None:
    """What a server does with each study's new events; a killed one does not store how far it came."""
    if advance:
        with follow(store, sink):
            wait_until(lambda: all(one.backlog == 0 for one in store.read(queries.sinks)))
        return
    for study in store.read(queries.studies):
        list(sink.deliver(EventBlock(study.id, study.name, 0, store.read(queries.events_after, study.id, 0))))


def test_each_started_trial_is_a_run(lab: Laboratory, tracking: Tracking) -> None:
    study = mixed_study(lab.store, "pets: 50 % or more?")
    deliver(lab.store, MlflowSink(lab.store, tracking.uri))
    runs = tracking.runs(study.id)
    assert tracking.experiment(study.id).name == study.name
    assert set(runs) == {"study", "0", "1", "2", "3", "4", "5"}  # 6 is queued
    trials = {str(one.number): one for one in lab.store.read(queries.trials, study.id)}
    for number, run in runs.items():
        if number == "study":
            assert run.info.status == "RUNNING"
            assert json.loads(tracking.text(run, "study.json", tracking.file.parent))["name"] == study.name
            continue
        trial = trials[number]
        assert run.info.run_name == f"trial {number}" and run.data.tags["mlflow.parentRunId"] == runs["study"].info.run_id
        assert {name: json.loads(text) for name, text in run.data.params.items()} == trial.params
        assert run.data.tags["thawline.state"] == trial.state and run.data.tags["thawline.source"] == trial.source
        if trial.state.terminal:
            assert run.info.end_time == pytest.approx((trial.finished_at or 0) * 1000, abs=1)
    statuses = {number: run.info.status for number, run in runs.items()}
    assert statuses == {
        "study": "RUNNING", "0": "FINISHED", "1": "FAILED", "2": "KILLED", "3": "FAILED", "4": "KILLED", "5": "RUNNING",
    }  # fmt: skip
    assert runs["3"].data.tags["thawline.detail"] == trials["3"].detail
    assert tracking.curve(runs["0"], "accuracy") == [(3, 0.91)]
    diverged = tracking.curve(runs["1"], "accuracy")
    assert diverged[0] == (1, 0.5) and [step for step, _ in diverged] == [1, 2, 3] and math.isnan(diverged[1][1])
    assert tracking.curve(runs["1"], "loss")[0][1] > 1e308  # MLflow has no infinity


def test_the_confirmed_winner_is_an_artifact(embedded_store: Store, tracking: Tracking) -> None:
    lab = Laboratory(embedded_store)
    searched(lab)
    sink = MlflowSink(lab.store, tracking.uri)
    deliver(lab.store, sink)
    study = lab.store.read(queries.find_study, "digits")
    assert [one.path for one in tracking.client.list_artifacts(tracking.runs(study.id)["study"].info.run_id)] == ["study.json"]
    confirm_all(lab)
    deliver(lab.store, sink)
    study = lab.store.read(queries.find_study, "digits")
    runs = tracking.runs(study.id)
    assert runs["study"].info.status == "FINISHED"
    exported, _ = lab.store.read(exported_of, study)
    assert exported.confirmed is not None
    assert tracking.text(runs["study"], "best.yaml", tracking.file.parent) == exported.to_yaml()
    assert "# " in tracking.text(runs["study"], "card.md", tracking.file.parent)
    confirming = [one for one in lab.store.read(queries.confirmation_trials, study.id) if one.state is TrialState.COMPLETE]
    assert confirming
    for trial in confirming:
        assert runs[str(trial.number)].data.tags["thawline.confirms"] == str(trial.confirms)


def test_what_a_killed_server_wrote_is_not_doubled(embedded_store: Store, tracking: Tracking) -> None:
    lab = Laboratory(embedded_store)
    study = mixed_study(lab.store)
    for _ in range(2):  # each a new process, as it were
        deliver(lab.store, MlflowSink(lab.store, tracking.uri), advance=False)
    deliver(lab.store, MlflowSink(lab.store, tracking.uri))
    runs = tracking.runs(study.id)
    assert len(runs) == 7
    assert [step for step, _ in tracking.curve(runs["1"], "accuracy")] == [1, 2, 3]


def test_reports_of_a_trial_that_went_back_to_the_queue_are_kept(embedded_store: Store, tracking: Tracking) -> None:
    lab = Laboratory(embedded_store)
    study = lab.study("digits")
    claim = lab.claim()
    lab.report(claim, 1, accuracy=0.25)
    lab.fail(claim, "crashed")
    trial = lab.store.read(queries.find_trial, study.id, 0)
    assert trial.state is TrialState.QUEUED
    sink = MlflowSink(lab.store, tracking.uri)
    deliver(lab.store, sink)
    run = tracking.runs(study.id)["0"]
    assert (run.info.status, tracking.curve(run, "accuracy")) == ("SCHEDULED", [(1, 0.25)])
    lab.finish(lab.claim(), 0.5)
    deliver(lab.store, sink)
    run = tracking.runs(study.id)["0"]
    assert (run.info.status, tracking.curve(run, "accuracy")) == ("FINISHED", [(1, 0.25), (3, 0.5)])


def test_nothing_is_lost_in_an_outage_and_the_error_names_the_server_only(embedded_store: Store, tracking: Tracking) -> None:
    lab, away = Laboratory(embedded_store), tracking.file.with_suffix(".away")
    study = lab.study("digits", budget={"trials": 2})
    sink = MlflowSink(lab.store, tracking.uri)
    with follow(lab.store, sink):
        lab.finish(lab.claim(), 0.5)
        wait_until(lambda: lab.store.read(queries.sinks)[0].backlog == 0)
        tracking.file.rename(away)
        tracking.file.mkdir()
        lab.finish(lab.claim(), 0.75)
        wait_until(lambda: lab.store.read(queries.sinks)[0].failures >= 2)
        error = lab.store.read(queries.sinks)[0].error or ""
        tracking.file.rmdir()
        away.rename(tracking.file)
        wait_until(lambda: lab.store.read(queries.sinks)[0].backlog == 0)
    assert error.startswith("MLflow at sqlite cannot be reached") and str(tracking.file) not in error
    runs = tracking.runs(study.id)
    assert {number: run.info.status for number, run in runs.items()} == {"study": "FINISHED", "0": "FINISHED", "1": "FINISHED"}
    assert tracking.curve(runs["1"], "accuracy") == [(3, 0.75)]


def test_a_run_or_an_experiment_that_was_deleted_in_mlflow_is_made_again(embedded_store: Store, tracking: Tracking) -> None:
    lab = Laboratory(embedded_store)
    study = lab.study("digits")
    claim = lab.claim()
    sink = MlflowSink(lab.store, tracking.uri)
    deliver(lab.store, sink)
    tracking.client.delete_run(tracking.runs(study.id)["0"].info.run_id)
    lab.report(claim, 1, accuracy=0.5)
    deliver(lab.store, sink)
    assert tracking.curve(tracking.runs(study.id)["0"], "accuracy") == [(1, 0.5)]
    tracking.client.delete_experiment(tracking.experiment(study.id).experiment_id)
    lab.finish(claim, 0.75)
    deliver(lab.store, MlflowSink(lab.store, tracking.uri))
    assert tracking.experiment(study.id).name == f"digits ({study.id})"
    assert tracking.curve(tracking.runs(study.id)["0"], "accuracy") == [(3, 0.75)]


def test_a_deleted_study_and_one_that_mlflow_refuses_stop_no_other(
    embedded_store: Store, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Laboratory(embedded_store)
    refused, sound = lab.study("refused"), lab.study("sound")
    sink = MlflowSink(lab.store, tracking.uri)
    gone = EventBlock("0" * 16, "gone", 0, lab.store.read(queries.events_after, sound.id, 0))
    assert [one.seq for one in sink.deliver(gone)] == [gone.events[-1].seq]
    tracking.client.create_experiment("taken")
    monkeypatch.setattr(following, "MOST_REFUSALS", 1)
    real = MlflowRuns.study_run

    def refuse(runs: MlflowRuns, study: Any) -> str:
        if study.id == refused.id:
            runs._client.set_tag(real(runs, study), "", "MLflow refuses an empty name")
        return real(runs, study)

    monkeypatch.setattr(MlflowRuns, "study_run", refuse)
    with pytest.raises(EventRefused, match="MLflow at sqlite answered INVALID_PARAMETER_VALUE"):
        list(sink.deliver(EventBlock(refused.id, "refused", 0, lab.store.read(queries.events_after, refused.id, 0))))
    deliver(lab.store, sink)
    assert set(tracking.runs(sound.id)) == {"study"}
    assert lab.store.read(queries.sinks)[0].skipped == 1


def test_two_servers_and_kills_write_each_run_once(embedded_store: Store, migrated_sqlite: str, tracking: Tracking, tmp_path: Path) -> None:
    lab = Laboratory(embedded_store)
    study = lab.study("digits", budget={"trials": TRIALS})
    for _ in range(TRIALS):
        claim = lab.claim()
        lab.report(claim, 1, accuracy=0.25)
        lab.finish(claim, 0.5)
    variables = {"THAW_MLFLOW_URI": tracking.uri, "THAW_DATABASE_URL": migrated_sqlite, "THAW_LEASE_SECONDS": LEASE_SECONDS}
    with running(tmp_path, **variables) as one, running(tmp_path, **variables) as another:
        wait_until(lambda: len(_runs(tracking, study.id)) > 3, seconds=300)
        for server in (one, another):
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
    before = len(_runs(tracking, study.id))
    assert before <= TRIALS  # it was killed in the middle
    with running(tmp_path, **variables):
        wait_until(lambda: lab.store.read(queries.sinks)[0].backlog == 0, seconds=300)
    runs = tracking.runs(study.id)
    assert set(runs) == {"study", *map(str, range(TRIALS))}
    assert all(run.info.status == "FINISHED" for run in runs.values())
    for number in range(TRIALS):
        assert tracking.curve(runs[str(number)], "accuracy") == [(1, 0.25), (3, 0.5)]


def _runs(tracking: Tracking, study: str) -> dict[str, Any]:
    found = tracking.client.search_experiments(filter_string=f"tags.`{STUDY_TAG}` = '{study}'")
    return tracking.runs(study) if found else {}


@pytest.mark.parametrize("name", ["val/loss", "val/", "/loss", "a//b", ".", "..", "./x", "a/../b", "x%y", "loss:0", "n" * 300])
def test_every_name_of_a_metric_is_one_for_mlflow(name: str) -> None:
    """MLflow refuses the whole call, with the values of other metrics and trials, for one name that is no relative path."""
    from mlflow.utils.validation import _validate_length_limit, _validate_metric_name

    _validate_metric_name(mlflow_name(name))
    _validate_length_limit("Metric name", 250, mlflow_name(name))
    assert mlflow_name("val/loss") == "val/loss"


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "nonsense://host", "http", "javascript:x"])
def test_other_uris_are_refused(embedded_store: Store, tmp_path: Path, uri: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        sinks_of(embedded_store, Settings(home=tmp_path, mlflow_uri=uri))
    (fault,) = raised.value.faults
    assert fault.path == ("mlflow_uri",) and "write http://host:5000, or sqlite:////" in fault.message


def test_uris_of_mlflow_are_accepted_and_no_name_has_a_password(embedded_store: Store) -> None:
    for uri in (
        "http://host:5000",
        "https://user:hunter22@host/x",
        "postgresql+psycopg://user:hunter22@host/db",
        "sqlite:///x.db",
        "databricks",
    ):
        assert checked_uri(uri) == uri
        assert "hunter22" not in MlflowSink(embedded_store, uri).name


def test_a_missing_package_is_named(embedded_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(configured, "find_spec", lambda name: None if name == "mlflow" else found(name))
    with pytest.raises(InvalidInput) as raised:
        sinks_of(embedded_store, Settings(home=tmp_path, mlflow_uri="http://host:5000"))
    assert raised.value.faults[0].message == "THAW_MLFLOW_URI: MLflow is not installed: pip install 'thawline[mlflow]'"


def test_a_server_that_cannot_be_reached(embedded_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = Laboratory(embedded_store).study("digits")
    sink = MlflowSink(embedded_store, "http://user:hunter22@127.0.0.1:9")
    with pytest.raises(Undelivered) as raised:
        list(sink.deliver(EventBlock(study.id, "digits", 0, embedded_store.read(queries.events_after, study.id, 0))))
    assert str(raised.value) == "MLflow at 127.0.0.1 cannot be reached, or answered INTERNAL_ERROR"
