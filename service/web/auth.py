"""Access to the server: token, session cookie, hosts and origins."""

import asyncio
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces import Fault
from service.domain.errors import InvalidInput, ThawlineError
from service.store import Store, queries
from service.web import SAFE_METHODS
from service.web.dependencies import TheSettings
from service.web.middleware import Buckets, client_of, too_fast
from service.web.problems import (
    CROSS_SITE,
    HOST_NOT_ALLOWED,
    KEY_IN_URL,
    UNAUTHENTICATED,
    ProblemError,
    ProblemKind,
    for_error,
    problem,
)
from service.web.requests import Document

COOKIE = "thawline_session"
MAX_AGE_SECONDS = 7 * 24 * 3600
MOST_COOKIES = 8  # checked in one request: another server under the same host name can set a cookie of this name too

router = APIRouter()


def equal(left: str, right: str) -> bool:
    """Compare two secrets in constant time. They are hashed first, so that the time does not depend on their lengths either."""
    return hmac.compare_digest(hashlib.sha256(left.encode("utf-8", "surrogateescape")).digest(), hashlib.sha256(right.encode()).digest())


class Sessions:
    """Issues and checks session cookies.

    The signing key is derived from the token and a random key in the database. A cookie is valid for every server of the database and
    survives restarts; a new token or another database invalidates it. Without the random key, a stolen cookie would allow offline guesses
    of the token.
    """

    def __init__(self, token: str, store: Store) -> None:
        self._token = token
        self._store = store
        self._key: bytes | None = None

    def load(self) -> None:
        """Read the random key from the database on the first call. Raises StoreUnavailable."""
        if self._key is None:
            # The random key in a read-only database is not used: the file can come from another party, which then has the key as well.
            own = secrets.token_hex(32) if self._store.read_only else self._store.read(queries.session_key)
            self._key = hmac.new(own.encode(), self._token.encode(), "sha256").digest()

    def issue(self, now: float) -> str:
        """A signed cookie value with its time of issue. It does not contain the token."""
        issued = str(int(now))
        return f"{issued}.{self._signature(issued)}"

    def seconds_left(self, cookies: Iterable[str], now: float | None = None) -> float:
        """Remaining lifetime of the newest valid cookie in seconds; 0 if none is valid."""
        sound = [int(issued) for issued, _, signature in (cookie.partition(".") for cookie in cookies) if self._is_sound(issued, signature)]
        return max(0.0, max(sound, default=0) + MAX_AGE_SECONDS - (time.time() if now is None else now)) if sound else 0.0

    def _is_sound(self, issued: str, signature: str) -> bool:
        return equal(signature, self._signature(issued))

    def _signature(self, issued: str) -> str:
        self.load()
        assert self._key is not None  # noqa: S101  (narrows the type for mypy)
        return hmac.new(self._key, f"session {issued}".encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def cookies_of(headers: Headers) -> list[str]:
    """The session cookies of a request, the most specific path first."""
    pairs = (part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";"))
    return [value for name, _, value in pairs if name == COOKIE][:MOST_COOKIES]


def login_address(path: str, query: str) -> str:
    """The login page's URL, with the requested page as `next`."""
    return f"/login?next={quote(f'{path}?{query}' if query else path)}"


@router.post("/login", status_code=204, include_in_schema=False)
def log_in(request: Request, document: Document, settings: TheSettings) -> Response:
    """Set a session cookie if the body, {"token": …}, contains the server's token."""
    candidate = document.get("token") if isinstance(document, dict) else None
    if not isinstance(candidate, str):
        raise InvalidInput([Fault(("token",), "missing", "this field is required; add it")])
    if settings.token is None or not equal(candidate, settings.token):
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
    """Delete the session cookie in this browser."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=settings.root_path or "/", httponly=True, samesite="strict", secure=_is_tls(request))
    return answer


def _is_tls(request: Request) -> bool:
    """Whether the browser uses TLS.

    Behind a proxy that terminates TLS, the scheme of the Origin header decides; SameSiteMiddleware has compared that header with Host.
    """
    return request.url.scheme == "https" or request.headers.get("origin", "").lower().startswith("https://")


PUBLIC_PATHS = frozenset({"/livez", "/login", "/static/login.js", "/static/login.css", "/static/mark.svg"})
KEY_PARAMETERS = frozenset({"token", "access_token", "key", "api_key", "apikey", "auth", "authorization", "claim_token", "claim-token"})
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?\Z")


class HostMiddleware:
    """Refuses requests whose Host header is not a name of this server, as a protection against DNS rebinding.

    Accepted are loopback names and the address on which the connection arrived, with any port, since a tunnel or a container can publish
    the server on another port; and the names in THAW_HOSTS, with any port unless one is given. In a rebinding attack the browser sends
    the attacker's host name, which is none of these.
    """

    # Not Starlette's TrustedHostMiddleware: it compares names without ports with a fixed list, so it can neither accept the connection's
    # own address nor require a port, and it accepts a request with two Host headers.

    def __init__(self, app: ASGIApp, allowed: Iterable[str] = ()) -> None:
        self.app = app
        self.allowed = frozenset(name.lower() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_ours(scope):
            await self.app(scope, receive, send)
        else:
            detail = "The server does not accept this host name; to allow it, add it to THAW_HOSTS."
            await _refuse(HOST_NOT_ALLOWED, detail, scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        named = Headers(scope=scope).getlist("host")
        if len(named) != 1 or (match := HOST.match(named[0].lower())) is None:
            return False
        name = match["name"]
        ports = (match["port"],) if match["port"] else DEFAULT_PORTS.values()
        if not all(1 <= int(port) <= 65_535 for port in ports):
            return False
        if name in self.allowed or any(f"{name}:{int(port)}" in self.allowed for port in ports):
            return True
        return _is_loopback(name) or name == _literal((scope.get("server") or ("", None))[0])


def _is_loopback(name: str) -> bool:
    """Whether the name resolves to the browser's own machine. Subdomains of `localhost` do not count: some resolvers query the network."""
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _literal(address: str) -> str:
    """The IP address in the notation of a Host header; an empty string if it is not an IP address."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        return ""


class TokenMiddleware:
    """Requires the token or a session cookie for all but the public paths. Without a configured token every request passes.

    The rate of refused requests is limited for each address, safe methods included. The token is compared before the limit is applied,
    so that refusals never limit requests with the right token.
    """

    def __init__(self, app: ASGIApp, token: str | None, sessions: Sessions | None, refusals: Buckets) -> None:
        self.app = app
        self.token = token
        self.sessions = sessions
        self.refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif self._has_key_in_url(scope):
            await _refuse(KEY_IN_URL, "Send the token as `Authorization: Bearer …`; URLs end up in logs.", scope, receive, send)
        elif self.token is None or scope["path"] in PUBLIC_PATHS or self._has_token(scope, self.token):
            await self.app(scope, receive, send)
        elif _has_authorization(scope):
            await self._refuse_limited(scope, receive, send)
        else:
            await self._authenticate_by_session(scope, receive, send)

    async def _authenticate_by_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookies = cookies_of(Headers(scope=scope))
        try:
            seconds = await self._seconds_left(cookies) if cookies else 0.0
        except ThawlineError as error:  # the signing key is in the database, which is unavailable
            await for_error(scope, error)(scope, receive, send)
            return
        if seconds > 0:
            await self._respond_until(seconds, scope, receive, send)
        elif _wants_page(scope):
            address = login_address(scope["path"], scope["query_string"].decode("latin-1"))
            await RedirectResponse(address, 303)(scope, receive, send)
        else:
            await self._refuse_limited(scope, receive, send)

    async def _seconds_left(self, cookies: list[str]) -> float:
        if self.sessions is None:
            return 0.0
        await to_thread.run_sync(self.sessions.load)
        return self.sessions.seconds_left(cookies)

    async def _refuse_limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (seconds := self.refusals.wait(client_of(scope))) > 0:
            detail = "This address sent too many requests without a valid token; send it as `Authorization: Bearer …`."
            await too_fast(scope, detail, seconds)(scope, receive, send)
        else:
            await _refuse(UNAUTHENTICATED, "Send the token as `Authorization: Bearer …`, or log in at /login.", scope, receive, send)

    def _has_key_in_url(self, scope: Scope) -> bool:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=None)
        return any(name.lower() in KEY_PARAMETERS or (self.token is not None and equal(value, self.token)) for name, value in pairs)

    async def _respond_until(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app for the rest of the session. An event stream ends with its session; reconnecting requires a new login."""
        started = False

        async def track_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(seconds) as session_time:
                await self.app(scope, receive, track_start)
        except TimeoutError:
            if not session_time.expired():
                raise
            if started:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await _refuse(UNAUTHENTICATED, "The session has expired; log in at /login.", scope, receive, send)

    def _has_token(self, scope: Scope, token: str) -> bool:
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and equal(secret.strip(), token)


def _has_authorization(scope: Scope) -> bool:
    """Whether the request has an Authorization header. If so, cookies are ignored."""
    return "authorization" in Headers(scope=scope)


def _wants_page(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", "")


class SameSiteMiddleware:
    """Refuses requests with unsafe methods that a page of another site makes a browser send (cross-site request forgery)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS or _is_own(Headers(scope=scope)):
            await self.app(scope, receive, send)
        else:
            detail = "Changes are accepted only from this server's own pages and from programs, not from pages of other sites."
            await _refuse(CROSS_SITE, detail, scope, receive, send)


def _is_own(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    if (origin := headers.get("origin")) is None:  # not a browser: browsers send Origin with these methods
        return "authorization" in headers or not cookies_of(headers)
    scheme, _, authority = origin.lower().partition("://")
    return scheme in DEFAULT_PORTS and _authority(authority, scheme) == _authority(headers["host"].lower(), scheme) is not None


def _authority(text: str, scheme: str) -> tuple[str, int] | None:
    match = HOST.match(text)
    return match and (match["name"], int(match["port"] or DEFAULT_PORTS[scheme]))


async def _refuse(kind: ProblemKind, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await problem(scope, kind, detail)(scope, receive, send)
