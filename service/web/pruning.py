"""A study's pruning looked back on, over REST."""

from fastapi import APIRouter, Request, Response

from service.domain.hindsight import Hindsight
from service.domain.records import Study
from service.search.replaying import look_back
from service.store import Store
from service.store.queries.trials import recording
from service.web import API
from service.web.crowd import SlowWork
from service.web.dependencies import FoundStudy, TheStore
from service.web.drawings import Drawings, Subject

router = APIRouter(prefix=API, tags=["studies"])


@router.get(
    "/studies/{study}/pruning",
    summary="Look back on the pruning",
    response_class=Response,
    responses={200: {"model": Hindsight, "description": "What it saved, and whether another pruner would have changed the winner"}},
)
async def show_pruning(study: FoundStudy, store: TheStore, request: Request) -> Response:
    """What pruning saved, and what other pruners would have done with the curves that the trials of the search reported.

    Played again as the study goes on, though long ones not at each change.
    """
    kept: Drawings = request.app.state.replays
    standing = (study.state, str(study.confirmation is None))  # the last word on a study is never an older one
    work: SlowWork = request.app.state.replay_work
    subject = Subject(study.id, "pruning", standing)
    if (replay := kept.kept(subject, study.seq)) is None:
        replay = await work.run(lambda: kept.get(subject, study.seq, lambda: _replayed(store, study)))
    return Response(replay.body, media_type="application/json")


def _replayed(store: Store, study: Study) -> bytes:
    return look_back(store.read(recording, study.id)).model_dump_json().encode()
