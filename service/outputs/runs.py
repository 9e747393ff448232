"""Trials as runs of experiment trackers, from the store or from an exported study."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, BinaryIO, cast

from search_spaces import Scalar
from service.domain.records import MetricReport, Study, Trial
from service.domain.states import TrialState
from service.store.codec import decode_metrics
from service.study_io.format import ReportColumns, ReportsLine, TrialLine
from service.study_io.import_ import Header, checked

TEXTS = ("source", "reason", "detail", "worker", "confirms")


@dataclass(frozen=True, slots=True)
class TrackedStudy:
    """A study as an experiment."""

    id: str
    name: str
    metric: str  # the objective's
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedTrial:
    """A trial as a run. Times are seconds since 1970."""

    study: TrackedStudy
    number: int
    state: TrialState
    params: Mapping[str, Scalar]
    step: int  # last reported step
    began_at: float
    ended_at: float | None
    texts: Mapping[str, str]  # of TEXTS those that it has
    result: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"trial {self.number}"

    def moment(self, step: int) -> float:
        """When the step was reported, if all steps took equally long: the store keeps no time for each report."""
        end = self.began_at if self.ended_at is None else max(self.began_at, self.ended_at)
        return self.began_at + (end - self.began_at) * min(1.0, step / max(1, self.step))


def study_of_store(study: Study) -> TrackedStudy:
    """The experiment of a study of the store."""
    return TrackedStudy(study.id, study.name, study.spec.objective.metric, study.spec.model_dump(mode="json"))


def trial_of_store(study: TrackedStudy, trial: Trial) -> TrackedTrial:
    """The run of a trial of the store."""
    return _tracked(study, trial, trial.queued_at)


def trials_in(file: BinaryIO) -> Iterator[tuple[TrackedTrial, Iterator[MetricReport]]]:
    """The trials of an exported study that were started, each with its reports, which are read before the next trial.

    Raises InvalidInput.
    """
    file.seek(0)
    lines = checked(file)
    header = cast(Header, next(lines))  # `checked` yields it first
    name, spec = header.spec.name, header.spec
    study = TrackedStudy(header.line.id or name, name, spec.objective.metric, spec.model_dump(mode="json"))
    for _, group in groupby(cast(Iterator[TrialLine | ReportsLine], lines), key=lambda line: line.number):
        trial, reports = _of_file(study, group)
        if trial.state is not TrialState.QUEUED:
            yield trial, reports


def _of_file(study: TrackedStudy, lines: Iterator[TrialLine | ReportsLine]) -> tuple[TrackedTrial, Iterator[MetricReport]]:
    first = cast(TrialLine, next(lines))  # `checked` yields it before its further reports
    further = (report for line in lines for report in _reports(cast(ReportsLine, line)))
    return _tracked(study, first, first.queued_at), chain(_reports(first.reports), further)


def _tracked(study: TrackedStudy, trial: Trial | TrialLine, queued_at: float) -> TrackedTrial:
    return TrackedTrial(
        study=study,
        number=trial.number,
        state=trial.state,
        params=trial.params,
        step=trial.step,
        began_at=queued_at if trial.started_at is None else trial.started_at,
        ended_at=trial.finished_at,
        texts={name: str(text) for name in TEXTS if (text := getattr(trial, name)) is not None},
        result=trial.result,
    )


def _reports(columns: ReportColumns) -> Iterator[MetricReport]:
    for place, step in enumerate(columns.steps):
        values = {name: column[place] for name, column in columns.metrics.items()}
        yield MetricReport(step, decode_metrics({name: value for name, value in values.items() if value is not None}))
