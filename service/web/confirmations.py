"""The confirmation of a study's best over REST."""

from collections.abc import Mapping

from fastapi import APIRouter

from service.confirmed import phase_of, verdict_of
from service.domain.records import Study
from service.domain.states import Phase, TrialState
from service.rest_models import ConfirmationView, RunsView
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from trainer.tasks.registry import spec_of

router = APIRouter(prefix=API, tags=["studies"])

NOTES: Mapping[Phase, str] = {
    "none": "Nothing is confirmed: the best of many tries looks better than it is. A study with `confirm` trains its best again.",
    "search": "Not confirmed yet: the search is under way. Its best and the baseline are then trained again, with fresh seeds.",
    "running": "Not confirmed yet: the best and the baseline are being trained again with fresh seeds and scored on the test {examples}.",
    "done": "Confirmed on test {examples} that no trial of the search has seen.",
    "stopped": "The study ended before its confirmation did; what is known of it is below.",
}


@router.get("/studies/{study}/confirmation", summary="What the winner is worth")
def show_confirmation(study: FoundStudy, store: TheStore) -> ConfirmationView:
    """The best configurations and the baseline over fresh seeds, on examples that no trial of the search has seen."""
    return store.read(_view, study)


def _view(tx: Transaction, study: Study) -> ConfirmationView:
    counts, phase = queries.count_repeats(tx, study.id), phase_of(study)
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
