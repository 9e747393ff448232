"""Requests as a socket brings them: no client that tidies the address first."""

from dataclasses import dataclass
from urllib.parse import unquote

import anyio
from starlette.types import ASGIApp, Message, Scope

from tests.web.laboratory import HERE


@dataclass(frozen=True)
class RawAnswer:
    status: int
    headers: dict[str, str]
    body: bytes


def send_raw(app: ASGIApp, method: str, target: str, headers: dict[str, str], host: str = HERE.removeprefix("http://")) -> RawAnswer:
    """The app's answer to a request line with exactly this target; the path is decoded as uvicorn does it."""
    path, _, query = target.partition("?")
    address, port = HERE.removeprefix("http://").split(":")
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "state": {},
        "server": (address, int(port)),
        "client": ("127.0.0.1", 50_000),
        "headers": [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in headers.items())],
    }
    sent: list[Message] = []

    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await anyio.sleep_forever()  # the client waits for the answer
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    answer = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return RawAnswer(sent[0]["status"], answer, b"".join(message.get("body", b"") for message in sent[1:]))
