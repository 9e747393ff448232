"""Endpoints for a study's results: the best configuration, its confirmation, and the pruning report."""

from collections.abc import Mapping
from typing import Annotated, assert_never

from fastapi import APIRouter, Query, Request, Response

from service.confirmation.status import phase_of, recommended_trial, verdict_of
from service.domain.errors import NoResult
from service.domain.export import Exported
from service.domain.pruning import PruningReport
from service.domain.records import Study, Trial
from service.domain.states import Phase, TrialState
from service.exports.card import card
from service.exports.configuration import Known, export, note_of, requirements, script
from service.rest_models import ConfirmationView, ExportFormat, RunsView
from service.search.pruning_report import pruning_report
from service.store import Store, Transaction, queries
from service.store.queries.trials import recorded_study
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.figures import FigureCache, Subject
from service.web.middleware import SlowWork
from trainer.tasks.registry import spec_of

router = APIRouter(prefix=API, tags=["studies"])

MEDIA_TYPES = ("application/json", "application/yaml", "text/x-python", "text/markdown", "text/plain")


@router.get(
    "/studies/{study}/best",
    summary="Export the best configuration",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in MEDIA_TYPES}, "description": "The exported file"}},
)
def show_best(
    study: FoundStudy,
    store: TheStore,
    format: Annotated[
        ExportFormat, Query(description="`json` and `yaml` are input of `thaw train`; `python` is a script that does not need Thawline")
    ] = "json",
) -> Response:
    """The configuration for production training: the confirmed recommendation or, before there is one, the best complete trial.

    `confirmed` and `note` state which of the two it is. 404 `no-result` before the first complete trial.
    """
    exported = store.read(exported_of, study)
    match format:
        case "json":
            return Response(exported.to_json(), media_type="application/json")
        case "yaml":
            return Response(exported.to_yaml(), media_type="application/yaml")
        case "python":
            return Response(script(exported), media_type="text/x-python")
        case "card":
            return Response(card(exported), media_type="text/markdown")
        case "requirements":
            return Response(requirements(exported), media_type="text/plain")
        case _:
            assert_never(format)


def exported_of(tx: Transaction, study: Study) -> Exported:
    """The current export of the study. Raises NoResult."""
    trial, verdict = recommended_trial(tx, study)
    if trial is None:
        raise NoResult
    complete = queries.counts(tx, [study.id])[study.id][TrialState.COMPLETE]
    known = Known(
        note=note_of(phase_of(study), verdict, complete, spec_of(study.spec.task).example),
        verdict=verdict,
        repeats=queries.confirmation_trials(tx, study.id) if verdict is not None else (),
        metrics=queries.metrics(tx, _trained(tx, trial).id),
        manifest=queries.manifest(tx, study.id),
    )
    return export(study, trial, known)


def _trained(tx: Transaction, trial: Trial) -> Trial:
    """The trial itself or, for a duplicate, the trial whose result it copied."""
    return trial if trial.duplicate_of is None else queries.find_trial(tx, trial.study, trial.duplicate_of)


NOTES: Mapping[Phase, str] = {
    "none": "Not confirmed: the best of many trials looks better than it is. A study with `confirm` trains its best configurations again.",
    "search": "Not confirmed yet: the search is running. The best configurations and the baseline are then trained again with new seeds.",
    "running": "Not confirmed yet: the best configurations and the baseline are trained again with new seeds and scored on the test "
    "{examples}.",
    "done": "Confirmed on test {examples} that no trial of the search has used.",
    "stopped": "The study ended before its confirmation did; the results so far are below.",
}


@router.get("/studies/{study}/confirmation", summary="Show the confirmation")
def show_confirmation(study: FoundStudy, store: TheStore) -> ConfirmationView:
    """Results of the best configurations and the baseline with new seeds, on test examples that no trial of the search has used."""
    return store.read(_view, study)


def _view(tx: Transaction, study: Study) -> ConfirmationView:
    counts, phase = queries.count_confirmation_trials(tx, study.id), phase_of(study)
    return ConfirmationView(
        phase=phase,
        note=NOTES[phase].format(examples=f"{spec_of(study.spec.task).example}s"),
        runs=RunsView(
            done=sum(count for state, count in counts.items() if state.terminal),
            running=counts[TrialState.RUNNING],
            queued=counts[TrialState.QUEUED],
        ),
        verdict=verdict_of(tx, study),
    )


@router.get(
    "/studies/{study}/pruning",
    summary="Show the pruning report",
    response_class=Response,
    responses={200: {"model": PruningReport, "description": "Saved epochs, and whether another pruner would have changed the winner"}},
)
async def show_pruning(study: FoundStudy, store: TheStore, request: Request) -> Response:
    """What pruning saved, and what other pruners would have decided on the learning curves of the search's trials.

    After changes the report is computed again; a report that takes long to compute can be up to 5 seconds old.
    """
    cache: FigureCache = request.app.state.replays
    # State and phase are part of the key: the report on an ended study must not be one from before its end.
    state = (study.state, str(study.confirmation is None))
    work: SlowWork = request.app.state.replay_work
    subject = Subject(study.id, "pruning", state)
    if (report := cache.kept(subject, study.seq)) is None:
        report = await work.run(lambda: cache.get(subject, study.seq, lambda: _report(store, study)))
    return Response(report.body, media_type="application/json")


def _report(store: Store, study: Study) -> bytes:
    return pruning_report(store.read(recorded_study, study.id)).model_dump_json().encode()
