"""What a study hands over, over REST: its configuration as a file, a script, a model card or a list of requirements."""

from typing import Annotated, assert_never

from fastapi import APIRouter, Query, Response

from service.confirmed import phase_of, recommended_trial
from service.domain.errors import NoResult
from service.domain.export import Exported
from service.domain.records import Study, Trial
from service.domain.states import TrialState
from service.export.card import card
from service.export.making import Known, export
from service.export.notes import note_of
from service.export.requirements import requirements
from service.export.script import script
from service.rest_models import ExportFormat
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from trainer.tasks.registry import spec_of

router = APIRouter(prefix=API, tags=["studies"])

MEDIA_TYPES = ("application/json", "application/yaml", "text/x-python", "text/markdown", "text/plain")


@router.get(
    "/studies/{study}/best",
    summary="Export the best configuration",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in MEDIA_TYPES}, "description": "A file for `thaw train`, or about it"}},
)
def show_best(
    study: FoundStudy,
    store: TheStore,
    format: Annotated[
        ExportFormat, Query(description="json and yaml are for `thaw train`, python is a script that does without it")
    ] = "json",
) -> Response:
    """All that production training needs, of the confirmed recommendation, or until there is one of the best complete trial.

    `confirmed` and `note` say which of the two it is. 404 `no-result` until there is a complete trial.
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
    """The study's file as things stand. Raises NoResult."""
    trial, verdict = recommended_trial(tx, study)
    if trial is None:
        raise NoResult
    tries = queries.counts(tx, [study.id])[study.id][TrialState.COMPLETE]
    known = Known(
        note=note_of(phase_of(study), verdict, tries, spec_of(study.spec.task).example),
        verdict=verdict,
        repeats=queries.repeats(tx, study.id) if verdict is not None else (),
        metrics=queries.metrics(tx, _trained(tx, trial).id),
        manifest=queries.manifest(tx, study.id),
    )
    return export(study, trial, known)


def _trained(tx: Transaction, trial: Trial) -> Trial:
    """The trial whose training a duplicate's result is of."""
    return trial if trial.duplicate_of is None else queries.find_trial(tx, trial.study, trial.duplicate_of)
