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
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from search_spaces import Fault
from service.domain import errors
from service.rest_models import FaultView, ProblemView
from service.web.addressing import methods_at, without_slash

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:thawline:problem:"
LONGEST_INSTANCE = 256  # characters
LONGEST_POINTER = 256  # a place is named by the keys that were sent, and those may be long
MOST_FAULTS = 100  # are listed; a document can have hundreds of thousands


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its status, the last part of its `type`, and its title."""

    status: int
    slug: str
    title: str
    headers: Mapping[str, str] = field(default_factory=dict)


VALIDATION = Kind(422, "validation", "The input has faults")
MALFORMED_REQUEST = Kind(400, "malformed-request", "This is not HTTP")
MALFORMED = Kind(400, "malformed-document", "The body cannot be read")
UNAUTHENTICATED = Kind(401, "unauthenticated", "A token is needed", {"WWW-Authenticate": 'Bearer realm="thawline"'})
HOST_NOT_ALLOWED = Kind(400, "host-not-allowed", "This host name is not allowed")
KEY_IN_URL = Kind(400, "key-in-url", "A key has no place in an address")
CROSS_SITE = Kind(403, "cross-site-request", "The request comes from another site")
BODY_TOO_LARGE = Kind(413, "body-too-large", "The body is too large")
BODY_TOO_SLOW = Kind(408, "body-too-slow", "The body took too long", {"Connection": "close"})
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported-media-type", "The body's content type is not accepted")
UNKNOWN_MODEL = Kind(404, "model-not-found", "Model not found")
RATE_LIMITED = Kind(429, "rate-limited", "Too many changes in a short time")
TOO_MANY_OWN_STREAMS = Kind(429, "too-many-streams", "Too many streams are open from one address", {"Retry-After": "5"})
TOO_MANY_STREAMS = Kind(503, "too-many-streams", "Too many streams are open", {"Retry-After": "5"})
NOT_READY = Kind(503, "not-ready", "The server is not ready", {"Retry-After": "5"})
BUSY = Kind(503, "busy", "The server is busy", {"Retry-After": "1"})
INTERNAL = Kind(500, "internal", "The server failed")

STORE_UNAVAILABLE = Kind(503, "store-unavailable", "The database does not answer", {"Retry-After": "2"})

KINDS: Mapping[type[errors.ThawlineError], Kind] = {
    errors.StudyNotFound: Kind(404, "study-not-found", "Study not found"),
    errors.StudyDeleted: Kind(404, "study-not-found", "Study not found"),
    errors.StudyUnreadable: Kind(409, "study-unreadable", "The study cannot be read"),
    errors.TrialNotFound: Kind(404, "trial-not-found", "Trial not found"),
    errors.WorkerNotFound: Kind(404, "worker-not-found", "Worker not found"),
    errors.NoResult: Kind(404, "no-result", "There is no result yet"),
    errors.NoScript: Kind(404, "no-script", "The task has no training script"),
    errors.UnknownFigure: Kind(404, "figure-not-found", "Figure not found"),
    errors.PlotlyMissing: Kind(503, "plotly-missing", "Plotly is not installed"),
    errors.NameTaken: Kind(409, "name-taken", "The name is taken"),
    errors.StudyClosed: Kind(409, "study-closed", "The study's state forbids this"),
    errors.TrialClosed: Kind(409, "trial-closed", "The trial has ended"),
    errors.QuotaExceeded: Kind(429, "quota-exceeded", "The server holds as many as it may", {"Retry-After": "60"}),
    errors.BudgetSpent: Kind(409, "budget-spent", "The budget is spent"),
    errors.LeaseLost: Kind(409, "lease-lost", "Lease lost"),
    errors.IdempotencyConflict: Kind(422, "idempotency-key-reused", "The Idempotency-Key was used before"),
    errors.InvalidInput: VALIDATION,
    errors.StoreUnavailable: STORE_UNAVAILABLE,
    errors.ImportGivenUp: STORE_UNAVAILABLE,
    errors.DiskFull: Kind(507, "disk-full", "The disk is full", {"Retry-After": "30"}),
    errors.SchemaTooOld: Kind(503, "schema-too-old", "The database belongs to an older Thawline", {"Retry-After": "60"}),
    errors.NotADatabase: Kind(503, "not-a-database", "This is not a Thawline database", {"Retry-After": "60"}),
    errors.ReadOnly: Kind(403, "read-only", "Nothing can be changed here"),
    errors.SchemaTooNew: Kind(503, "schema-too-new", "The database belongs to a newer Thawline", {"Retry-After": "60"}),
}
"""The one table of the domain's errors. What it lacks is a fault of ours: 500."""

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
"""A problem, for the OpenAPI document."""

QUERY_CODES: Mapping[str, str] = {"missing": "this parameter is required; add it"}


class ProblemError(Exception):
    """A problem that only the web layer knows of, with its sentence for the user."""

    def __init__(self, kind: Kind, detail: str, faults: Iterable[Fault] = ()) -> None:
        self.kind = kind
        self.detail = detail
        self.faults = tuple(faults)
        super().__init__(detail)


def request_id(scope: Scope) -> str:
    """The request's id: made on first sight, then the same for answer, header and log."""
    state = scope.setdefault("state", {})
    return str(state.setdefault("request_id", uuid.uuid4().hex))


def problem(scope: Scope, kind: Kind, detail: str, faults: Iterable[Fault] = (), headers: Mapping[str, str] | None = None) -> Response:
    """The answer for one problem. Nothing of the request's content is repeated in it."""
    # Constructed without validation: a pointer may have a lone surrogate, which pydantic refuses and JSON escapes.
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
    """The answer for any exception that an endpoint or a middleware let out."""
    match error:
        case ProblemError():
            return problem(scope, error.kind, error.detail, error.faults)
        case errors.InvalidInput():
            return problem(scope, VALIDATION, _counted(len(error.faults)), error.faults)
        case errors.ThawlineError() if (kind := _kind_of(error)) is not None:
            return problem(scope, kind, str(error))
        case RequestValidationError():
            faults = [_parameter_fault(item) for item in error.errors()]
            return problem(scope, VALIDATION, _counted(len(faults)), faults)
        case HTTPException():
            return problem(scope, _http_kind(error.status_code), HTTPStatus(error.status_code).description or "-", headers=error.headers)
        case _:
            return problem(scope, INTERNAL, "Something went wrong on our side; the log names this request_id.")


def install(app: FastAPI) -> None:
    """Answer every known exception inside the app with a problem. The unknown ones are `access.Guard`'s."""
    for known in (ProblemError, errors.ThawlineError, RequestValidationError, HTTPException):
        app.add_exception_handler(known, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND and (redirect := without_slash(request)) is not None:
        return redirect
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(methods_at(request))}  # of all routes at this path; the framework names the first one's
    return for_error(request.scope, error)


def _kind_of(error: errors.ThawlineError) -> Kind | None:
    return next((KINDS[known] for known in type(error).__mro__ if known in KINDS), None)


def _http_kind(status: int) -> Kind:
    phrase = HTTPStatus(status).phrase
    return Kind(status, phrase.lower().replace(" ", "-"), phrase)


def _counted(count: int) -> str:
    if count == 1:
        return "The input has 1 fault; see errors."
    return f"The input has {count} faults; see errors{f' for the first {MOST_FAULTS}' if count > MOST_FAULTS else ''}."


def _parameter_fault(item: Mapping[str, Any]) -> Fault:
    message = QUERY_CODES.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
    return Fault(tuple(item["loc"]), str(item["type"]), message)
