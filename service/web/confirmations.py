"""The confirmation of a study's best over REST."""

from collections.abc import Mapping

from fastapi import APIRouter
from pydantic import Field

from service.confirmed import Phase, phase_of, verdict_of
from service.domain.records import Study
from service.domain.states import TrialState
from service.domain.verdict import Verdict
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.view import View

router = APIRouter(prefix=API, tags=["studies"])

NOTES: Mapping[Phase, str] = {
    "none": "Nothing is confirmed: the best of many tries looks better than it is. A study with `confirm` trains its best again.",
    "search": "Not confirmed yet: the search is under way. Its best and the baseline are then trained again, with fresh seeds.",
    "running": "Not confirmed yet: the best and the baseline are being trained again with fresh seeds and scored on the test images.",
    "done": "Confirmed on test images that no trial of the search has seen.",
    "stopped": "The study ended before its confirmation did; what is known of it is below.",
}


class RunsView(View):
    """The trials of the confirmation."""

    done: int = Field(description="that ended, whatever their end")
    running: int
    queued: int


class ConfirmationView(View):
    """How far the confirmation is, and what it has found."""

    phase: Phase = Field(description="none: the study confirms nothing; search: it will; stopped: it ended before")
    note: str = Field(description="the same in a sentence")
    runs: RunsView
    verdict: Verdict | None = Field(description="of the runs so far; null before the first")


@router.get("/studies/{study}/confirmation", summary="What the winner is worth")
def show_confirmation(study: FoundStudy, store: TheStore) -> ConfirmationView:
    """The best configurations and the baseline over fresh seeds, on images that no trial of the search has seen."""
    return store.read(_view, study)


def _view(tx: Transaction, study: Study) -> ConfirmationView:
    counts, phase = queries.count_repeats(tx, study.id), phase_of(study)
    return ConfirmationView(
        phase=phase,
        note=NOTES[phase],
        runs=RunsView(
            done=sum(count for state, count in counts.items() if state.terminal),
            running=counts[TrialState.RUNNING],
            queued=counts[TrialState.QUEUED],
        ),
        verdict=verdict_of(tx, study),
    )
