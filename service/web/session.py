"""Browser sessions: a login exchanges the token for an HttpOnly cookie."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.store import Store, queries
from service.web.body import Document
from service.web.dependencies import TheSettings
from service.web.problems import UNAUTHENTICATED, ProblemError

COOKIE = "thawline_session"
MAX_AGE_SECONDS = 7 * 24 * 3600
MOST_COOKIES = 8  # checked in one request: another server under the same host name may have set one too

router = APIRouter()


def equal(left: str, right: str) -> bool:
    """Whether two secrets are the same, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hashlib.sha256(left.encode("utf-8", "surrogateescape")).digest(), hashlib.sha256(right.encode()).digest())


class Sessions:
    """Issues and checks session cookies.

    A cookie is signed with a key that is derived from the token and a random key in the database. It is valid for every server of the
    database and survives restarts; a new token or another database invalidates it. Without the random key, a stolen cookie could be used
    to test guesses of the token offline.
    """

    def __init__(self, token: str, store: Store) -> None:
        self._token = token
        self._store = store
        self._key: bytes | None = None

    def load(self) -> None:
        """Read the key, once. Raises StoreUnavailable."""
        if self._key is None:  # a read-only database may come from somebody else, who then knows its key
            own = secrets.token_hex(32) if self._store.read_only else self._store.read(queries.session_key)
            self._key = hmac.new(own.encode(), self._token.encode(), "sha256").digest()

    def issue(self, now: float) -> str:
        """A cookie value that proves the token was known at that time, without holding it."""
        issued = str(int(now))
        return f"{issued}.{self._signature(issued)}"

    def seconds_left(self, cookies: Iterable[str], now: float | None = None) -> float:
        """The seconds for which one of the cookies is still valid; 0 if none is."""
        sound = [int(issued) for issued, _, signature in (cookie.partition(".") for cookie in cookies) if self._is_sound(issued, signature)]
        return max(0.0, max(sound, default=0) + MAX_AGE_SECONDS - (time.time() if now is None else now)) if sound else 0.0

    def _is_sound(self, issued: str, signature: str) -> bool:
        return equal(signature, self._signature(issued))

    def _signature(self, issued: str) -> str:
        self.load()
        assert self._key is not None  # noqa: S101  (tells mypy)
        return hmac.new(self._key, f"session {issued}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def cookies_of(headers: Headers) -> list[str]:
    """The session cookies of a request, the most specific path first."""
    pairs = (part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";"))
    return [value for name, _, value in pairs if name == COOKIE][:MOST_COOKIES]


def login_address(path: str, query: str) -> str:
    """Where to send a browser that asked for the page at `path` without a session."""
    return f"/login?next={quote(f'{path}?{query}' if query else path)}"


@router.post("/login", status_code=204, include_in_schema=False)
def log_in(request: Request, document: Document, settings: TheSettings) -> Response:
    """Trade the token, sent as {"token": …}, for a session cookie."""
    stated = document.get("token") if isinstance(document, dict) else None
    if not isinstance(stated, str):
        raise InvalidInput([Fault(("token",), "missing", "this field is required; add it")])
    if settings.token is None or not equal(stated, settings.token):
        raise ProblemError(UNAUTHENTICATED, "This is not the server's token.")
    answer = Response(status_code=204)
    sessions: Sessions = request.app.state.sessions
    answer.set_cookie(
        COOKIE,
        sessions.issue(time.time()),
        MAX_AGE_SECONDS,
        path=settings.root_path or "/",
        httponly=True,
        samesite="strict",
        secure=_is_tls(request),
    )
    return answer


@router.post("/logout", status_code=204, include_in_schema=False)
def log_out(request: Request, settings: TheSettings) -> Response:
    """Forget the session cookie in this browser."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=settings.root_path or "/", httponly=True, samesite="strict", secure=_is_tls(request))
    return answer


def _is_tls(request: Request) -> bool:
    """Whether the browser uses TLS. Behind a proxy that terminates TLS, the Origin header shows it, which was compared with Host before."""
    return request.url.scheme == "https" or request.headers.get("origin", "").lower().startswith("https://")
