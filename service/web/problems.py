"""Errors as problem details (RFC 9457): one table from the domain's errors to HTTP, and the handlers that apply it."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from search_spaces import Fault
from service.domain import errors
from service.rest_models import FaultView, ProblemView

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:thawline:problem:"
LONGEST_INSTANCE = 256  # characters
LONGEST_POINTER = 256  # characters; a pointer contains keys of the request, which can be long
MOST_FAULTS = 100  # listed in one response; a document can have hundreds of thousands


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: its status, the last part of its `type`, and its title."""

    status: int
    slug: str
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


VALIDATION = ProblemKind(422, "validation", "The input has faults")
MALFORMED_REQUEST = ProblemKind(400, "malformed-request", "The request is not valid HTTP/1.1")
MALFORMED = ProblemKind(400, "malformed-document", "The body cannot be read")
UNAUTHENTICATED = ProblemKind(401, "unauthenticated", "Authentication is required", {"WWW-Authenticate": 'Bearer realm="thawline"'})
HOST_NOT_ALLOWED = ProblemKind(400, "host-not-allowed", "This host name is not allowed")
KEY_IN_URL = ProblemKind(400, "key-in-url", "The API token must not be in the URL")
CROSS_SITE = ProblemKind(403, "cross-site-request", "Cross-site request refused")
BODY_TOO_LARGE = ProblemKind(413, "body-too-large", "The body is too large")
BODY_TOO_SLOW = ProblemKind(408, "body-too-slow", "The body did not arrive in time", {"Connection": "close"})
UNSUPPORTED_MEDIA_TYPE = ProblemKind(415, "unsupported-media-type", "The content type is not supported")
UNKNOWN_MODEL = ProblemKind(404, "model-not-found", "Model not found")
RATE_LIMITED = ProblemKind(429, "rate-limited", "Rate limit exceeded")
TOO_MANY_OWN_STREAMS = ProblemKind(429, "too-many-streams", "Too many streams are open from one address", {"Retry-After": "5"})
TOO_MANY_STREAMS = ProblemKind(503, "too-many-streams", "Too many streams are open", {"Retry-After": "5"})
NOT_READY = ProblemKind(503, "not-ready", "The server is not ready", {"Retry-After": "5"})
BUSY = ProblemKind(503, "busy", "The server is busy", {"Retry-After": "1"})
INTERNAL = ProblemKind(500, "internal", "Internal server error")

STORE_UNAVAILABLE = ProblemKind(503, "store-unavailable", "The database is unavailable", {"Retry-After": "2"})

KINDS: Mapping[type[errors.ThawlineError], ProblemKind] = {
    errors.StudyNotFound: ProblemKind(404, "study-not-found", "Study not found"),
    errors.StudyDeleted: ProblemKind(404, "study-not-found", "Study not found"),
    errors.StudyUnreadable: ProblemKind(409, "study-unreadable", "The study cannot be read"),
    errors.TrialNotFound: ProblemKind(404, "trial-not-found", "Trial not found"),
    errors.WorkerNotFound: ProblemKind(404, "worker-not-found", "Worker not found"),
    errors.NoResult: ProblemKind(404, "no-result", "There is no result yet"),
    errors.NoModel: ProblemKind(404, "no-model", "The task has no model"),
    errors.NoScript: ProblemKind(404, "no-script", "The task has no training script"),
    errors.UnknownFigure: ProblemKind(404, "figure-not-found", "Figure not found"),
    errors.PlotlyMissing: ProblemKind(503, "plotly-missing", "Plotly is not installed"),
    errors.NameTaken: ProblemKind(409, "name-taken", "The name is taken"),
    errors.StudyClosed: ProblemKind(409, "study-closed", "The study's state forbids this"),
    errors.TrialClosed: ProblemKind(409, "trial-closed", "The trial has ended"),
    errors.QuotaExceeded: ProblemKind(429, "quota-exceeded", "The limit on studies is reached", {"Retry-After": "60"}),
    errors.BudgetSpent: ProblemKind(409, "budget-spent", "The budget is spent"),
    errors.LeaseLost: ProblemKind(409, "lease-lost", "Lease lost"),
    errors.TrialCancelled: ProblemKind(409, "trial-cancelled", "The trial was cancelled"),
    errors.ClaimNotFound: ProblemKind(404, "claim-not-found", "Claim not found"),
    errors.WrongClaimToken: ProblemKind(403, "claim-token-refused", "This is not the claim's token"),
    errors.StepNotNew: ProblemKind(409, "step-not-new", "The step was reported before"),
    errors.IdempotencyConflict: ProblemKind(422, "idempotency-key-reused", "The Idempotency-Key was used for another request"),
    errors.InvalidInput: VALIDATION,
    errors.StoreUnavailable: STORE_UNAVAILABLE,
    errors.ImportGivenUp: STORE_UNAVAILABLE,
    errors.DiskFull: ProblemKind(507, "disk-full", "The disk is full", {"Retry-After": "30"}),
    errors.SchemaTooOld: ProblemKind(503, "schema-too-old", "The database schema is too old", {"Retry-After": "60"}),
    errors.NotADatabase: ProblemKind(503, "not-a-database", "This is not a Thawline database", {"Retry-After": "60"}),
    errors.ReadOnly: ProblemKind(403, "read-only", "The server is read-only"),
    errors.SchemaTooNew: ProblemKind(503, "schema-too-new", "The database schema is too new", {"Retry-After": "60"}),
}
"""Status and title of each domain error. An error without an entry is a bug and is answered with 500."""

RESPONSE: dict[str, Any] = {
    "description": "A problem (RFC 9457)",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "instance", "request_id"],
                "properties": {
                    **{name: {"type": "string"} for name in ("type", "title", "detail", "instance", "request_id")},
                    "status": {"type": "integer"},
                    "errors": {
                        "type": "array",
                        "items": {"type": "object", "properties": {name: {"type": "string"} for name in ("pointer", "code", "detail")}},
                    },
                },
            },
            "example": {
                "type": TYPE_PREFIX + "validation",
                "title": "The input has faults",
                "status": 422,
                "detail": "The input has 1 fault; see errors.",
                "instance": "/api/v1/studies",
                "request_id": "0f4c2f6a4f0e4b0f9f6f6c1f2d3e4a5b",
                "errors": [{"pointer": "#/search_space/lr/low", "code": "low_above_high", "detail": "low is above high; exchange them"}],
            },
        }
    },
}
"""The problem response in the OpenAPI document."""

QUERY_CODES: Mapping[str, str] = {"missing": "this parameter is required; add it"}


class ProblemError(Exception):
    """An error of the web layer that has no counterpart in the domain. `detail` is shown to the user."""

    def __init__(self, kind: ProblemKind, detail: str, faults: Iterable[Fault] = ()) -> None:
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        super().__init__(detail)


def request_id(scope: Scope) -> str:
    """The request's id, generated on the first call and then shared by the problem body, the X-Request-ID header and the log."""
    state = scope.setdefault("state", {})
    return str(state.setdefault("request_id", uuid.uuid4().hex))


def problem(
    scope: Scope, kind: ProblemKind, detail: str, faults: Iterable[Fault] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Build a problem response. It repeats nothing of the request but its path, the keys in `faults`, and a study's name that is taken."""
    # Constructed without validation: a pointer can contain a lone surrogate, which pydantic refuses and JSON escapes.
    body = ProblemView.model_construct(
        type=TYPE_PREFIX + kind.slug,
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=(scope.get("state", {}).get("root_path", "") + quote(scope.get("path", ""), safe="/"))[:LONGEST_INSTANCE],
        request_id=request_id(scope),
        errors=tuple(map(_listed, islice(faults, MOST_FAULTS))) or None,
    )
    content = json.dumps(body.model_dump(exclude_none=True), ensure_ascii=True, allow_nan=False)
    return Response(content, kind.status, {**kind.headers, **(headers or {})}, MEDIA_TYPE)


def _listed(fault: Fault) -> FaultView:
    return FaultView.model_construct(pointer=fault.pointer[:LONGEST_POINTER], code=fault.code, detail=fault.message)


def for_error(scope: Scope, error: Exception) -> Response:
    """Map an exception of an endpoint or a middleware to a problem response."""
    match error:
        case ProblemError():
            return problem(scope, error.kind, error.detail, error.faults)
        case errors.InvalidInput():
            return problem(scope, VALIDATION, _counted(len(error.faults)), error.faults)
        case errors.NameTaken():
            return problem(scope, KINDS[errors.NameTaken], f"The name {errors.quoted(error.name)} is taken; see errors.", [error.fault])
        case errors.ThawlineError() if (kind := _kind_of(error)) is not None:
            return problem(scope, kind, str(error))
        case RequestValidationError():
            faults = [_parameter_fault(item) for item in error.errors()]
            return problem(scope, VALIDATION, _counted(len(faults)), faults)
        case HTTPException():
            return problem(scope, _http_kind(error.status_code), HTTPStatus(error.status_code).description or "-", headers=error.headers)
        case _:
            return problem(scope, INTERNAL, "An unexpected error occurred; the server's log has an entry with this request_id.")


def install(app: FastAPI) -> None:
    """Register the handler for known exceptions. `SecurityHeadersMiddleware` handles the others."""
    for known in (ProblemError, errors.ThawlineError, RequestValidationError, HTTPException):
        app.add_exception_handler(known, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND and (redirect := without_slash(request)) is not None:
        return redirect
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework lists only the methods of the first route that matches the path.
        error.headers = {"Allow": ", ".join(methods_at(request))}
    return for_error(request.scope, error)


def methods_at(request: Request, path: str | None = None) -> list[str]:
    """The methods of all routes that match the path (default: the request's path), sorted. GET implies HEAD."""
    scope = request.scope if path is None else {**request.scope, "path": path}
    contexts = iter_route_contexts(request.app.routes)
    found = {method for one in contexts if one.matches(scope)[0] is not Match.NONE for method in one.methods or ("GET",)}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def without_slash(request: Request) -> Response | None:
    """A redirect to the path without its trailing slash, if a route matches that path; None otherwise.

    Status 308 preserves method and body. The target cannot begin with `//` or `/\\\\`, which a browser would take for another host.
    """
    path: str = request.scope["path"]
    shorter = path.rstrip("/")
    if shorter == path or not shorter or shorter.startswith(("//", "/\\")) or not methods_at(request, shorter):
        return None
    query = request.scope["query_string"].decode("latin-1")
    return RedirectResponse(f"{quote(shorter)}{f'?{query}' if query else ''}", 308)


def _kind_of(error: errors.ThawlineError) -> ProblemKind | None:
    return next((KINDS[known] for known in type(error).__mro__ if known in KINDS), None)


def _http_kind(status: int) -> ProblemKind:
    phrase = HTTPStatus(status).phrase
    return ProblemKind(status, phrase.lower().replace(" ", "-"), phrase)


def _counted(count: int) -> str:
    if count == 1:
        return "The input has 1 fault; see errors."
    return f"The input has {count} faults; see errors{f' for the first {MOST_FAULTS}' if count > MOST_FAULTS else ''}."


def _parameter_fault(item: Mapping[str, Any]) -> Fault:
    message = QUERY_CODES.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
    return Fault(tuple(item["loc"]), str(item["type"]), message)
