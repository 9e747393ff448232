"""Trials as runs of MLflow: an experiment for each study, with a run for the study itself and one for each trial, nested in it."""

import itertools
import json
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from service.confirmation.recommendation import exported_of
from service.domain.errors import NoResult, StudyNotFound, StudyUnreadable
from service.domain.records import Event, SinkProgress, Study, Trial
from service.domain.states import EventKind, StudyState, TrialState
from service.exports.card import card
from service.outputs.following import EventBlock, EventRefused, Undelivered
from service.outputs.runs import TrackedStudy, TrackedTrial, study_of_store, trial_of_store
from service.store import Store, queries

Value = tuple[str, float, float, int]
"""A metric's name, value, time in seconds since 1970, and step."""

SCHEMES = ("http", "https", "databricks", "sqlite", "postgresql", "mysql", "mssql")
STUDY_TAG, TRIAL_TAG = "thawline.study", "thawline.trial"
STUDY_RUN = "study"  # value of TRIAL_TAG of the run of the study itself
MOST_VALUES = 900  # of one call, beside parameters and tags: MLflow takes 1,000
MOST_TEXT = 5_000  # characters of a tag
NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]", re.ASCII)
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE"})
STATUS: Mapping[TrialState, str] = {
    TrialState.QUEUED: "SCHEDULED", TrialState.RUNNING: "RUNNING", TrialState.PAUSED: "RUNNING", TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED", TrialState.CANCELLED: "KILLED", TrialState.FAILED: "FAILED",
}  # fmt: skip
STUDY_STATUS: Mapping[StudyState, str] = {
    StudyState.COMPLETE: "FINISHED", StudyState.FAILED: "FAILED", StudyState.STOPPED: "KILLED",
}  # fmt: skip


def checked_uri(uri: str) -> str:
    """The URI. Raises ValueError if MLflow keeps no runs there."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if uri == "databricks" or scheme in SCHEMES:
        return uri
    raise ValueError(
        "MLflow has no tracking server at such a URI; write http://host:5000, or sqlite:////absolute/path/mlflow.db for a file"
    )


class MlflowRuns:
    """The runs of studies at one tracking server. Each call may be repeated: MLflow keeps one of equal values."""

    def __init__(self, uri: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # by default it waits up to 14 minutes, sends statistics of its use and prints links
        from mlflow import MlflowClient, entities

        self._entities = entities
        self._client = MlflowClient(tracking_uri=uri)
        self._artifacts = _artifacts_beside(uri)
        self._experiments = dict[str, str]()  # id by study
        self._runs = dict[tuple[str, str], str]()  # id by study and value of TRIAL_TAG

    def study_run(self, study: TrackedStudy) -> str:
        """The id of the run of the study itself, which is created, with its specification, if it is missing."""
        if (known := self._runs.get((study.id, STUDY_RUN))) is not None:
            return known
        run = self._found(study, STUDY_RUN, study.name, None, {})
        self._client.log_dict(run, dict(study.spec), "study.json")
        self._runs[study.id, STUDY_RUN] = run
        return run

    def update(self, trial: TrackedTrial, values: Iterable[Value]) -> None:
        """Add the values to the trial's run, which is created if it is missing, and set its state."""
        key = trial.study.id, str(trial.number)
        if key not in self._runs:
            parent = {"mlflow.parentRunId": self.study_run(trial.study)}
            self._runs[key] = self._found(trial.study, str(trial.number), trial.name, int(trial.began_at * 1000), parent)
        run = self._runs[key]
        texts = {"state": str(trial.state), **trial.texts}
        tags = [self._entities.RunTag(f"thawline.{name}", text[:MOST_TEXT]) for name, text in texts.items()]
        params = [self._entities.Param(_name(name), json.dumps(value)) for name, value in trial.params.items()]
        metrics = (self._entities.Metric(_name(name), value, int(at * 1000), step) for name, value, at, step in values)
        self._client.log_batch(run, list(itertools.islice(metrics, MOST_VALUES)), params, tags)
        while some := list(itertools.islice(metrics, MOST_VALUES)):
            self._client.log_batch(run, some)
        if not trial.state.terminal:
            self._client.update_run(run, status=STATUS[trial.state])
            return
        self._client.log_dict(run, dict(trial.result), "result.json")
        self._client.set_terminated(run, STATUS[trial.state], int((trial.ended_at or trial.began_at) * 1000))

    def set_study_state(self, study: TrackedStudy, status: str, files: Mapping[str, str]) -> None:
        """Set the status of the study's run, and write these files, text by name."""
        run = self.study_run(study)
        for name, text in files.items():
            self._client.log_text(run, text, name)
        self._client.update_run(run, status=status)

    def forget(self) -> None:
        """Look up the ids of experiments and runs again: after an error, one may have been deleted."""
        self._experiments.clear()
        self._runs.clear()

    def _found(self, study: TrackedStudy, key: str, name: str, start: int | None, tags: Mapping[str, str]) -> str:
        experiment = self._experiment(study)
        found = self._client.search_runs([experiment], f"tags.`{TRIAL_TAG}` = '{key}'", max_results=1)
        if not found:
            found = [self._client.create_run(experiment, start, {**tags, TRIAL_TAG: key, STUDY_TAG: study.id}, run_name=name)]
        return str(found[0].info.run_id)

    def _experiment(self, study: TrackedStudy) -> str:
        if study.id not in self._experiments:
            found = self._client.search_experiments(filter_string=f"tags.`{STUDY_TAG}` = '{study.id}'", max_results=1)
            self._experiments[study.id] = found[0].experiment_id if found else self._new_experiment(study)
        return self._experiments[study.id]

    def _new_experiment(self, study: TrackedStudy) -> str:
        """An experiment with the study's name; if MLflow has another one of that name, perhaps a deleted one, with the study's id too."""
        from mlflow.exceptions import MlflowException

        place = f"{self._artifacts}/{study.id}" if self._artifacts else None
        names = itertools.chain([study.name, f"{study.name} ({study.id})"], (f"{study.name} ({study.id}, {one})" for one in range(2, 100)))
        while True:
            try:
                return str(self._client.create_experiment(next(names), artifact_location=place, tags={STUDY_TAG: study.id}))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise


class MlflowSink:
    """Keeps the runs of a tracking server up to date with the trials of all studies."""

    from_start: ClassVar[bool] = True

    def __init__(self, store: Store, uri: str) -> None:
        self._store = store
        self._uri = checked_uri(uri)
        self._host = urlsplit(uri).hostname or urlsplit(uri).scheme or uri
        self._runs: MlflowRuns | None = None

    @property
    def name(self) -> str:
        return f"mlflow:{self._host[:40]}:{sha256(self._uri.encode()).hexdigest()[:8]}"

    def deliver(self, block: EventBlock) -> Iterator[SinkProgress]:
        try:
            from mlflow.exceptions import MlflowException

            if self._runs is None:
                self._runs = MlflowRuns(self._uri)
        except ImportError as error:
            raise Undelivered(f"{error.name} is not installed") from error
        try:
            self._deliver(self._runs, block)
        except (StudyNotFound, StudyUnreadable):  # it was deleted, or its row is damaged
            pass
        except ImportError as error:  # artifacts in a cloud need a further package
            raise Undelivered(f"MLflow at {self._host} needs the package {error.name}") from error
        except MlflowException as error:
            self._runs.forget()
            code = error.error_code if re.fullmatch(r"[A-Z_]{1,64}", str(error.error_code)) else "an error"
            if code in REFUSALS:
                raise EventRefused(block.events[-1].seq, f"MLflow at {self._host} answered {code}") from error
            raise Undelivered(f"MLflow at {self._host} cannot be reached, or answered {code}") from error
        yield SinkProgress(block.study, block.events[-1].seq, len(block.events))

    def close(self) -> None:
        self._runs = None

    def _deliver(self, runs: MlflowRuns, block: EventBlock) -> None:
        by_trial = _by_trial(block.events)
        with self._store.reading() as tx:
            study = queries.find_study(tx, block.study)
            trials = queries.trials_numbered(tx, block.study, by_trial.keys())
        tracked = study_of_store(study)
        runs.study_run(tracked)
        for trial in trials:
            run = trial_of_store(tracked, trial)
            runs.update(run, self._values(run, trial, block, by_trial[trial.number]))
        if any(one.kind.startswith("study_") for one in block.events):
            runs.set_study_state(tracked, STUDY_STATUS.get(study.state, "RUNNING"), self._files(study) if study.state.terminal else {})

    def _values(self, tracked: TrackedTrial, trial: Trial, block: EventBlock, events: Sequence[Event]) -> Iterator[Value]:
        """What the trial reported in these events of the block."""
        moments = {one.seq: one.at for one in events if one.kind == EventKind.TRIAL_REPORTED}
        steps = [report["step"] for one in events if one.seq in moments for report in one.body.get("reports", ())]
        has_end = any(one.body.get("state") == trial.state for one in events) and trial.state.terminal
        if not steps and not has_end:
            return
        place, until = (0 if has_end else min(steps), ""), (block.cursor, block.events[-1].seq)
        while values := self._store.read(queries.values_between, trial.id, place, until, MOST_VALUES):
            for one in values:  # the values of a copied or an imported trial came with the event of its end
                yield one.name, one.value, moments.get(one.seq) or tracked.moment(one.step), one.step
            place = values[-1].step, values[-1].name

    def _files(self, study: Study) -> Mapping[str, str]:
        """The exported configuration of the recommended trial, and its model card."""
        try:
            exported, report = self._store.read(exported_of, study)
        except NoResult:
            return {}
        return {"best.yaml": exported.to_yaml(), "card.md": card(exported, report=report)}


def _by_trial(events: Iterable[Event]) -> dict[int, list[Event]]:
    """The events of trials that were started, by number."""
    found = dict[int, list[Event]]()
    for one in events:
        if one.kind.startswith("trial_") and one.kind not in (EventKind.TRIAL_QUEUED, EventKind.TRIAL_LOGGED):
            found.setdefault(int(one.body["number"]), []).append(one)
    return found


def _name(name: str) -> str:
    """The name of a parameter or metric, without what MLflow refuses: some characters, and slashes and points of no relative path."""
    found = NOT_IN_A_NAME.sub("_", name)[:250]
    is_path = posixpath.normpath(found) == found and found != "." and not found.startswith(("/", ".."))
    return found if is_path else re.sub(r"[/.]", "_", found)


def _artifacts_beside(uri: str) -> str | None:
    """The folder of artifacts beside an SQLite file; None where the server chooses. MLflow would use the working directory."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
