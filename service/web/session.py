"""The browser's way to show the token: a login that turns it into a cookie no script can read."""

import hashlib
import hmac
import time
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.web.body import Document
from service.web.dependencies import TheSettings
from service.web.problems import UNAUTHENTICATED, ProblemError

COOKIE = "thawline_session"
MAX_AGE_SECONDS = 7 * 24 * 3600

router = APIRouter()


def equal(left: str, right: str) -> bool:
    """Whether two secrets are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hashlib.sha256(left.encode("utf-8", "surrogateescape")).digest(), hashlib.sha256(right.encode()).digest())


def issue(token: str, now: float) -> str:
    """A cookie value that proves the token was known at that time, without holding it."""
    issued = str(int(now))
    return f"{issued}.{_signature(token, issued)}"


def seconds_left(cookie: str | None, token: str, now: float | None = None) -> float:
    """How long the cookie still proves that the token was known; nothing for one that proves nothing."""
    issued, _, signature = (cookie or "").partition(".")
    if not equal(signature, _signature(token, issued)):
        return 0.0
    return max(0.0, int(issued) + MAX_AGE_SECONDS - (time.time() if now is None else now))


def _signature(token: str, issued: str) -> str:
    return hmac.new(token.encode(), f"session {issued}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def cookie_of(headers: Headers) -> str | None:
    """The session cookie of a request, if it has one."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE)


def login_address(path: str) -> str:
    """Where to send a browser that asked for the page at `path` without a session."""
    return f"/login?next={quote(path)}"


@router.post("/login", status_code=204, include_in_schema=False)
def log_in(request: Request, document: Document, settings: TheSettings) -> Response:
    """Trade the token, sent as {"token": …}, for a session cookie."""
    stated = document.get("token") if isinstance(document, dict) else None
    if not isinstance(stated, str):
        raise InvalidInput([Fault(("token",), "missing", "this field is required; add it")])
    if settings.token is None or not equal(stated, settings.token):
        raise ProblemError(UNAUTHENTICATED, "This is not the server's token.")
    answer = Response(status_code=204)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, issue(settings.token, time.time()), MAX_AGE_SECONDS, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout", status_code=204, include_in_schema=False)
def log_out() -> Response:
    """Forget the session cookie in this browser."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
