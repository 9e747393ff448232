"""Logs of trials over REST: what an attempt's trainer printed and its worker said, part by part or as a whole text."""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import PlainTextResponse

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.domain.records import Attempt, Trial
from service.rest_models import LogView
from service.store import Transaction, queries
from service.web import API
from service.web.dependencies import FoundTrial, TheStore
from service.web.paging import Limit
from service.web.views import attempt_view, chunk_view

LONGEST_TEXT = 11_000_000  # characters; the store keeps less of an attempt
PAGE = 100

router = APIRouter(prefix=f"{API}/studies/{{study}}/trials/{{number}}", tags=["trials"])


@router.get(
    "/log",
    summary="Show a trial's log",
    response_model=LogView,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "With `Accept: text/plain` all lines"}},
)
def show_log(
    trial: FoundTrial,
    request: Request,
    store: TheStore,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="by default the newest one")] = None,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="`next` of the part before, or the `seq` of its last chunk")] = 0,
    limit: Limit = PAGE,
) -> Response | LogView:
    """What the trainer printed and the worker said of an attempt. Of trials that shared a pass each has the end of what it printed."""
    with store.reading() as tx:
        attempts = queries.attempts(tx, trial.id)
        chosen = _chosen(attempts, attempt)
        if prefers_text(request.headers.get("accept", "")):
            return PlainTextResponse("".join(_texts(tx, trial, chosen, after)), headers={"Vary": "Accept"})
        found = [] if chosen is None else queries.log_chunks(tx, trial.id, chosen, after, limit + 1)
    return LogView(
        number=trial.number,
        attempt=chosen,
        attempts=[attempt_view(one) for one in attempts],
        chunks=[chunk_view(chunk) for chunk in found[:limit]],
        next=found[limit - 1].seq if len(found) > limit else None,
    )


def _chosen(attempts: Sequence[Attempt], asked: int | None) -> int | None:
    """The attempt that was asked for, or the newest one; None when there is none yet. Raises InvalidInput."""
    if asked is None:
        return attempts[-1].attempt if attempts else None
    if asked not in [one.attempt for one in attempts]:
        raise InvalidInput([Fault(("query", "attempt"), "unknown_attempt", "the trial has no such attempt; it names those that it has")])
    return asked


def _texts(tx: Transaction, trial: Trial, attempt: int | None, after: int) -> Iterator[str]:
    size = 0
    while attempt is not None and size < LONGEST_TEXT and (found := queries.log_chunks(tx, trial.id, attempt, after, PAGE)):
        yield from (chunk.text for chunk in found)
        size, after = size + sum(len(chunk.text) for chunk in found), found[-1].seq


def prefers_text(accept: str) -> bool:
    """Whether an Accept header asks for plain text rather than JSON."""
    wanted = dict(_range(part) for part in accept[:1_000].split(","))
    text = max(wanted.get("text/plain", 0), wanted.get("text/*", 0))
    return text > max(wanted.get(name, 0) for name in ("application/json", "application/*", "*/*"))


def _range(part: str) -> tuple[str, float]:
    """A media range with its weight; 0 for a weight that is none."""
    name, _, parameters = part.partition(";")
    weight = 1.0
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name.strip().lower(), weight if math.isfinite(weight) else 0.0
