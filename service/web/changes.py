"""What changed in a study since an event: all of it in one answer, however many trials ended at a time."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.rest_models import ChangesView
from service.store import queries
from service.web import API
from service.web.dependencies import FoundStudy, TheStore
from service.web.paging import Limit
from service.web.studies import study_views
from service.web.views import trial_view

router = APIRouter(prefix=API, tags=["studies"])


@router.get("/studies/{study}/changes", summary="Show what changed in a study")
def show_changes(
    study: FoundStudy,
    store: TheStore,
    after: Annotated[int, Query(ge=0, le=2**53, description="`seq` of an earlier answer or of a study; 0 for everything")] = 0,
    limit: Limit = 500,
) -> ChangesView:
    """The study, and each trial that an event after this sequence number touched. For those who follow the events."""
    with store.reading() as tx:
        latest = queries.find_study(tx, study.id)
        found = queries.trials_changed_after(tx, study.id, after, limit + 1)
        (shown,) = study_views(tx, [latest])
    more = len(found) > limit
    trials = [trial_view(study.spec, trial) for trial in found[:limit]]
    return ChangesView(study=shown, trials=trials, seq=found[limit - 1].changed if more else latest.seq, more=more)
