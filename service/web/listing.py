"""The list of studies: found by name and state, with how each best value rose, and not sent again while nothing changed."""

import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status

from service.domain.errors import StudyNotFound
from service.domain.records import Study, Unavailability
from service.domain.states import StudyState
from service.rest_models import Trend, TrendsPage
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import TheStore
from service.web.paging import Limit, unknown_cursor
from service.web.studies import study_views
from trainer.configuration import Direction

router = APIRouter(prefix=API, tags=["studies"])

MOST_POINTS = 32
MOST_REMEMBERED = 2_000  # studies


@dataclass(frozen=True, slots=True)
class Filters:
    """Which studies are listed."""

    name: Annotated[str | None, Query(max_length=128, description="a part of the name, in capitals or not")] = None
    state: Annotated[tuple[StudyState, ...], Query(description="only studies in one of these states")] = ()


class Trends:
    """The records of studies, remembered with the event up to which they go: what ended since then is all that is read anew."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Trend]] = {}

    def of(self, tx: Transaction, studies: Sequence[Study]) -> dict[str, Trend]:
        """By study's id, for all of them, thinned. The studies and their trials are read in one transaction."""
        known = {study.id: self._known[study.id] for study in studies if study.id in self._known}
        first = [study for study in studies if study.id not in known]
        stale = {study.id: known[study.id][0] for study in studies if study.id in known and known[study.id][0] < study.seq}
        whole = queries.records(tx, first) if first else {}
        newer = queries.completed_since(tx, stale) if stale else {}
        trends = {}
        for study in studies:
            before = known[study.id][1] if study.id in known else tuple(whole.get(study.id, ()))
            trends[study.id] = merged(before, newer.get(study.id, ()), study.spec.objective.direction)
        self._remember({study.id: (study.seq, trends[study.id]) for study in studies})
        return {key: thinned(trend) for key, trend in trends.items()}

    def _remember(self, known: Mapping[str, tuple[int, Trend]]) -> None:
        kept = self._known if len(self._known) < MOST_REMEMBERED else {}
        self._known = {**kept, **known}


def merged(records: Trend, ended: Iterable[tuple[int, float]], direction: Direction) -> Trend:
    """The records when these trials have ended as well, whatever their numbers. One that was none before becomes none."""
    better = operator.gt if direction == "maximize" else operator.lt
    kept = list[tuple[int, float]]()
    for number, value in sorted([*records, *ended]):
        if not kept or better(value, kept[-1][1]):
            kept.append((number, value))
    return tuple(kept)


def trends_of(request: Request) -> Trends:
    """The app's memory of trends."""
    return cast(Trends, request.app.state.trends)


TheTrends = Annotated[Trends, Depends(trends_of)]


def thinned(points: Iterable[tuple[int, float]]) -> Trend:
    """At most `MOST_POINTS` of them, evenly chosen; the first and the last stay."""
    every = tuple(points)
    if len(every) <= MOST_POINTS:
        return every
    step = (len(every) - 1) / (MOST_POINTS - 1)
    return tuple(every[round(place * step)] for place in range(MOST_POINTS))


@router.get("/studies", summary="List studies", response_model=TrendsPage, responses={304: {"description": "Nothing changed"}})
def list_studies(
    store: TheStore,
    trends: TheTrends,
    filters: Annotated[Filters, Depends()],
    limit: Limit = 100,
    after: Annotated[str | None, Query(description="`next` of the page before")] = None,
    if_none_match: Annotated[str | None, Header(description="`ETag` of an earlier answer")] = None,
) -> Response:
    """The newest first, a page at a time."""
    with store.reading() as tx:
        try:
            found = queries.studies(tx, limit + 1, after, filters.name, filters.state)
        except StudyNotFound:
            raise unknown_cursor() from None
        shown, more = found[:limit], len(found) > limit
        unavailable = queries.unavailabilities(tx, [study.id for study in shown])
        headers = {"ETag": _tag(shown, more, unavailable, queries.count_live(tx)), "Cache-Control": "private, no-cache"}
        if if_none_match is not None and headers["ETag"] in if_none_match:
            return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
        page = TrendsPage(studies=study_views(tx, shown), trends=trends.of(tx, shown), next=shown[-1].id if more else None)
    return Response(page.model_dump_json(), headers=headers, media_type="application/json")


def _tag(studies: Iterable[Study], more: bool, unavailable: Sequence[Unavailability], live_workers: int) -> str:
    """Every change of a study and of its trials is an event of it; that a worker has gone is none."""
    told = " ".join(f"{study.id}-{study.seq}" for study in studies)
    if unavailable:
        told += " ".join(["", str(live_workers), *(f"{one.study}-{one.worker}" for one in unavailable)])
    return f'W/"{hashlib.sha256(f"{more} {told}".encode()).hexdigest()[:32]}"'
