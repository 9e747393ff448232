"""URL handling: a proxy's path prefix, HEAD requests, and redirects of paths with a trailing slash."""

from urllib.parse import quote, unquote

import anyio
from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.datastructures import MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PrefixMiddleware:
    """Serves the app below `root_path`, whether or not the proxy in front strips that prefix.

    The app receives paths without the prefix; the prefix is added to `Location` headers. Settings refuse a prefix that is also the
    beginning of one of the app's paths.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path
        self.decoded = unquote(root_path)  # `scope["path"]` is decoded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.root_path:
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["root_path"] = self.root_path
        path: str = scope["path"]
        if path == self.decoded or path.startswith(f"{self.decoded}/"):
            path = path[len(self.decoded) :] or "/"
        stripped = {**scope, "path": path, "raw_path": quote(path).encode()}

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith("/"):
                    headers["location"] = self.root_path + headers["location"]
            await send(message)

        await self.app(stripped, receive, send_with_prefix)


class HeadMiddleware:
    """Answers HEAD with the status and headers of GET. A stream is cancelled once its headers are sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})  # shared with the copied scope
        with anyio.CancelScope() as response:

            async def send_headers_only(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await send(message)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    response.cancel()

            await self.app({**scope, "method": "GET"}, receive, send_headers_only)


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
