"""Endpoints for trials: list, show, queue, cancel, metrics and logs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status
from starlette.responses import PlainTextResponse

from search_spaces import Fault
from service import operations
from service.domain.errors import InvalidInput, TrialNotFound
from service.domain.parsing import parse_params, parse_params_list
from service.domain.records import Attempt, Study, Trial
from service.domain.states import TrialState
from service.rest_models import LogView, MetricsView, QueuedView, TrialsPage, TrialView, WholeTrialView
from service.store import Store, Transaction, queries
from service.web import API
from service.web.body import TRIAL_BODY, Document
from service.web.dependencies import FoundStudy, FoundTrial, Limit, TheStore, unknown_cursor
from service.web.idempotency import Keyed, KeyedRequest
from service.web.views import attempt_view, chunk_view, metrics_view, trial_view, whole_trial_view

router = APIRouter(prefix=f"{API}/studies/{{study}}/trials", tags=["trials"])


@router.get("", summary="List a study's trials")
def list_trials(
    study: FoundStudy,
    store: TheStore,
    state: Annotated[list[TrialState] | None, Query(description="only trials in this state; may be repeated")] = None,
    sort: Annotated[queries.TrialSort, Query(description="`-` sorts in descending order; trials without the value come last")] = "number",
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="`next` of the previous page")] = None,
) -> TrialsPage:
    """A page of the study's trials."""
    try:
        found = store.read(queries.trials, study.id, states=state or (), sort=sort, limit=limit + 1, after=after)
    except TrialNotFound:
        raise unknown_cursor() from None
    shown = found[:limit]
    return TrialsPage(trials=[trial_view(study.spec, trial) for trial in shown], next=str(shown[-1].number) if len(found) > limit else None)


@router.post(
    "", status_code=status.HTTP_201_CREATED, summary="Queue trials", response_model=TrialView | QueuedView, openapi_extra=TRIAL_BODY
)
def queue_trials(study: FoundStudy, document: Document, keyed: Keyed, store: TheStore) -> Response:
    """Queue one trial with the given `params`, or up to 1,000 `trials`, all or none of them. They count against the budget."""
    body = _trials_body(document)
    if "params" in body:
        return _queue_one(study, body["params"], keyed, store)
    return _queue_all(study, body["trials"], keyed, store)


def _queue_one(study: Study, document: object, keyed: KeyedRequest, store: Store) -> Response:
    params = parse_params(study.spec, document)
    return keyed.create(
        store,
        lambda key: operations.queue_trial(store, study.id, params, key),
        lambda _tx, trial: trial_view(study.spec, trial).model_dump_json(),
        location=f"{API}/studies/{study.id}/trials/{{number}}",
    )


def _queue_all(study: Study, document: object, keyed: KeyedRequest, store: Store) -> Response:
    trials = parse_params_list(study.spec, document)
    return keyed.create(
        store,
        lambda key: operations.enqueue_trials(store, study.id, trials, key),
        lambda _tx, queued: QueuedView(trials=[trial_view(study.spec, trial) for trial in queued]).model_dump_json(),
        location=f"{API}/studies/{study.id}/trials",
    )


def _trials_body(document: object) -> Mapping[str, object]:
    """The body, checked to be an object with either `params` or `trials`. Raises InvalidInput."""
    if not isinstance(document, dict):
        raise InvalidInput([Fault((), "not_a_mapping", "send an object with `params`, or with `trials` for several trials")])
    if unknown := sorted(document.keys() - {"params", "trials"}):
        raise InvalidInput(Fault((name,), "extra_forbidden", "unknown field; remove it or correct its name") for name in unknown)
    if not document:
        raise InvalidInput([Fault(("params",), "missing", "this field is required; add it, or `trials` for several trials")])
    if len(document) > 1:
        raise InvalidInput([Fault(("trials",), "one_or_many", "send either `params` or `trials`, not both; move `params` into `trials`")])
    return document


@router.get("/{number}", summary="Show a trial")
def show_trial(study: FoundStudy, trial: FoundTrial, store: TheStore) -> WholeTrialView:
    """The current state of the trial, with its attempts and the checkpoints that are kept."""
    return whole_trial_view(study.spec, trial, store.read(queries.attempts, trial.id))


@router.get("/{number}/metrics", summary="Show a trial's metrics")
def show_metrics(trial: FoundTrial, store: TheStore) -> MetricsView:
    """The metrics that the trial reported, one row for each step (epoch). Numbers that are not finite are null."""
    return metrics_view(trial.number, store.read(queries.metrics, trial.id))


@router.post("/{number}/cancel", summary="Cancel a trial", response_model=TrialView)
def cancel_trial(study: FoundStudy, trial: FoundTrial, keyed: Keyed, store: TheStore) -> Response:
    """End the trial without a result. Its worker stops the run at its next heartbeat."""
    return keyed.change(
        store,
        lambda key: operations.cancel_trial(store, study.id, trial.number, key),
        lambda _tx, cancelled: trial_view(study.spec, cancelled).model_dump_json(),
    )


LONGEST_TEXT = 11_000_000  # characters; more than the store keeps for one attempt
PAGE = 100  # chunks


@router.get(
    "/{number}/log",
    summary="Show a trial's log",
    response_model=LogView,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "With `Accept: text/plain`, all lines as text"}
    },
)
def show_log(
    trial: FoundTrial,
    request: Request,
    store: TheStore,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="number of the attempt; by default the newest one")] = None,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="`next` of the previous part, or `seq` of its last chunk")] = 0,
    limit: Limit = PAGE,
) -> Response | LogView:
    """Output of the trainer and messages of the worker for one attempt.

    Trials that are trained together share one trainer; each has the last part of its output.
    """
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
    """The requested attempt, by default the newest; None if there is no attempt yet. Raises InvalidInput for an unknown attempt."""
    if asked is None:
        return attempts[-1].attempt if attempts else None
    if asked not in [one.attempt for one in attempts]:
        raise InvalidInput(
            [Fault(("query", "attempt"), "unknown_attempt", "the trial has no such attempt; `attempts` lists those that exist")]
        )
    return asked


def _texts(tx: Transaction, trial: Trial, attempt: int | None, after: int) -> Iterator[str]:
    size = 0
    while attempt is not None and size < LONGEST_TEXT and (found := queries.log_chunks(tx, trial.id, attempt, after, PAGE)):
        yield from (chunk.text for chunk in found)
        size, after = size + sum(len(chunk.text) for chunk in found), found[-1].seq


def prefers_text(accept: str) -> bool:
    """Whether an Accept header prefers plain text to JSON."""
    wanted = dict(_range(part) for part in accept[:1_000].split(","))
    text = max(wanted.get("text/plain", 0), wanted.get("text/*", 0))
    return text > max(wanted.get(name, 0) for name in ("application/json", "application/*", "*/*"))


def _range(part: str) -> tuple[str, float]:
    """A media range and its weight; 0 for an invalid weight."""
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
