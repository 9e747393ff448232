"""Endpoints with which programs outside of Thawline claim trials, report on them and end them."""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Header, Path, Request, Response, status
from pydantic import BaseModel

from service.domain.claims import ClaimFailure, ClaimReport, ClaimResult, ClaimReturn, NewClaim, last_step, parse
from service.domain.errors import ClaimNotFound, WrongClaimToken
from service.domain.records import RestClaim, Trial
from service.domain.states import TrialState
from service.operations import Idempotency, Searches, claims
from service.rest_models import ClaimView, HeldView, NothingView, ReportedView, TrialView
from service.settings import Settings
from service.store import Store, Transaction, queries
from service.web import API
from service.web.dependencies import FoundStudy, TheSettings, TheStore
from service.web.middleware import SlowWork
from service.web.requests import Keyed, KeyedRequest, Raw, read_document
from service.web.views import trial_view

router = APIRouter(prefix=API, tags=["claims"])

CLAIM_ID = re.compile(r"(?P<study>[0-9a-f]{16})-(?P<number>[0-9]{1,9})-(?P<attempt>[0-9]{1,9})\Z")

Model = TypeVar("Model", bound=BaseModel)


def read_optional_document(request: Request, raw: Raw) -> Any:
    """As `read_document`; an empty object for a request without a body and a content type."""
    return {} if not raw and "content-type" not in request.headers else read_document(request, raw)


OptionalDocument = Annotated[Any, Depends(read_optional_document)]


def searches_of(request: Request) -> Searches:
    """The samplers and pruners of the app's process."""
    return cast(Searches, request.app.state.searches)


TheSearches = Annotated[Searches, Depends(searches_of)]


def find_claim(
    claim: Annotated[str, Path(description="the claim's id", examples=["8c5f0a1b2c3d4e5f-7-1"])],
    token: Annotated[str, Header(alias="Claim-Token", description="the token of the claim")],
    store: TheStore,
) -> RestClaim:
    """The claim whose id is in the path and whose token is in the header. Raises ClaimNotFound, WrongClaimToken."""
    match = CLAIM_ID.match(claim)
    if match is None:
        raise ClaimNotFound
    found = store.read(queries.find_claim, match["study"], int(match["number"]), int(match["attempt"]))
    if not hmac.compare_digest(_digest(token), found.token_sha256):
        raise WrongClaimToken
    return found


FoundClaim = Annotated[RestClaim, Depends(find_claim)]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _body(model: type[BaseModel], example: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    """The request body in the OpenAPI document."""
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": model.model_json_schema(), "example": example}}}
    }


@router.post(
    "/studies/{study}/claims",
    status_code=status.HTTP_201_CREATED,
    summary="Claim a trial",
    response_model=ClaimView,
    responses={200: {"model": NothingView, "description": "There is no trial for this claimant now"}},
    openapi_extra=_body(NewClaim, {"worker": "slurm-17"}),
)
async def claim_trial(  # noqa: PLR0913  (the parts of the application)
    study: FoundStudy,
    document: OptionalDocument,
    request: Request,
    keyed: Keyed,
    store: TheStore,
    settings: TheSettings,
    searches: TheSearches,
) -> Response:
    """Start a trial that the caller trains itself. It is lost, and returns to the queue, without a heartbeat for `lease_seconds`."""
    name = parse(NewClaim, document).worker
    host = request.client.host if request.client else ""

    def answer() -> Response:
        token = _token(keyed, store, settings)
        try:
            created = keyed.create(
                store,
                lambda key: claims.claim(store, searches, study.id, claims.claimant_of(study, name, host, _digest(token), key)),
                lambda tx, trial: _claim_text(tx, trial, settings),
                location=f"{API}/studies/{study.id}/trials/{{number}}",
            )
        except claims.NothingToClaim as nothing:
            view = NothingView(reason=nothing.reason, detail=nothing.detail, final=nothing.final)
            return Response(view.model_dump_json(), media_type="application/json")
        text = ClaimView.model_validate(json.loads(bytes(created.body)) | {"token": token}).model_dump_json()
        return Response(text, created.status_code, {"Location": created.headers["location"]}, "application/json")

    work: SlowWork = request.app.state.claim_work  # claims wait for each other while a sampler thinks; heartbeats must not wait
    return await work.run(answer)


def _token(keyed: KeyedRequest, store: Store, settings: Settings) -> str:
    """A new token; for a repeated request that of the first one.

    Answers to keys are stored, and tokens are not. The token of a request with a key is derived from it by secrets of the server.
    """
    if keyed.key is None:
        return secrets.token_hex(32)
    secret = hmac.new(store.read(queries.session_key).encode(), (settings.token or "").encode(), "sha256").digest()
    return hmac.new(secret, f"claim {keyed.key} {keyed.sha256}".encode(), "sha256").hexdigest()


def _claim_text(tx: Transaction, trial: Trial, settings: Settings) -> str:
    """The answer to a claim, with an empty token: this text is stored under the idempotency key."""
    spec = queries.find_study(tx, trial.study).spec
    view = ClaimView(
        claim=f"{trial.study}-{trial.number}-{trial.attempt}",
        token="",
        study=trial.study,
        number=trial.number,
        attempt=trial.attempt,
        phase="search" if trial.round is None else "confirmation",
        params=trial.params,
        fixed=spec.fixed,
        seed=trial_view(spec, trial).seed,
        metric=spec.objective.metric,
        direction=spec.objective.direction,
        last_step=last_step(spec, trial.params, trial.number, trial.round),
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
    )
    return view.model_dump_json()


@router.post("/claims/{claim}/heartbeat", summary="Renew a claim", response_model=HeldView)
def renew_claim(claim: FoundClaim, keyed: Keyed, store: TheStore, settings: TheSettings) -> Response:
    """Renew the lease. 409 `trial-cancelled` or `lease-lost`: stop the training, since the trial is no longer this claim's."""
    name = f"{claim.lease.study}-{claim.lease.number}-{claim.lease.attempt}"
    held = HeldView(claim=name, lease_seconds=settings.lease_seconds, heartbeat_seconds=settings.heartbeat_seconds)
    return keyed.change(store, lambda key: claims.beat(store, claim, key), lambda _tx, _nothing: held.model_dump_json())


@router.post(
    "/claims/{claim}/report",
    summary="Report metrics of a claimed trial",
    response_model=ReportedView,
    openapi_extra=_body(ClaimReport, {"step": 1, "metrics": {"accuracy": 0.5}}, required=True),
)
async def report_step(
    claim: FoundClaim, document: OptionalDocument, request: Request, keyed: Keyed, store: TheStore, searches: TheSearches
) -> Response:
    """Store the metrics of a step, and ask the study's pruner. `stop`: it has ended the trial; a repeated report gets the same answer."""
    step = parse(ClaimReport, document)
    work: SlowWork = request.app.state.report_work
    return await work.run(lambda: keyed.change(store, lambda key: claims.report(store, searches, claim, step, key), _reported))


def _reported(_tx: Transaction, trial: Trial) -> str:
    stop = trial.state is TrialState.PRUNED
    return ReportedView(step=trial.step, stop=stop, why=trial.detail if stop else None).model_dump_json()


@router.post(
    "/claims/{claim}/finish",
    summary="Complete a claimed trial",
    response_model=TrialView,
    openapi_extra=_body(ClaimResult, {"metrics": {"accuracy": 0.9}}),
)
def finish_trial(claim: FoundClaim, document: OptionalDocument, keyed: Keyed, store: TheStore) -> Response:
    """End the trial with its last report, or with the metrics in the body. Repeated: the same answer; another outcome: 409."""
    return _end(claim, keyed, store, claims.finish, parse(ClaimResult, document))


@router.post(
    "/claims/{claim}/fail",
    summary="End a claimed trial without a result",
    response_model=TrialView,
    openapi_extra=_body(ClaimFailure, {"reason": "out_of_memory", "detail": "the batch did not fit"}),
)
def fail_trial(claim: FoundClaim, document: OptionalDocument, keyed: Keyed, store: TheStore) -> Response:
    """End the trial as failed. With the reason `crashed` it returns to the queue, up to `limits.attempts` times."""
    return _end(claim, keyed, store, claims.fail, parse(ClaimFailure, document))


@router.post(
    "/claims/{claim}/release",
    summary="Return a claimed trial to the queue",
    response_model=TrialView,
    openapi_extra=_body(ClaimReturn, {"detail": "the job's time is over"}),
)
def release_trial(claim: FoundClaim, document: OptionalDocument, keyed: Keyed, store: TheStore) -> Response:
    """End the claim without an outcome, for example because the machine is needed. The attempt does not count."""
    return _end(claim, keyed, store, claims.release, parse(ClaimReturn, document))


def _end(
    claim: RestClaim, keyed: KeyedRequest, store: Store, end: Callable[[Store, RestClaim, Model, Idempotency], Trial], outcome: Model
) -> Response:
    return keyed.change(
        store,
        lambda key: end(store, claim, outcome, key),
        lambda _tx, trial: trial_view(claim.study.spec, trial).model_dump_json(),
    )
