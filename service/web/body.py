"""Request bodies: bounded in bytes and time, of an accepted content type, and read into plain values."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces import Faulty
from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES, from_json, from_yaml, plain, too_large
from service.domain.errors import InvalidInput
from service.web.problems import BODY_TOO_LARGE, BODY_TOO_SLOW, MALFORMED, UNSUPPORTED_MEDIA_TYPE, ProblemError, for_error

MAX_SECONDS = 30.0
READERS = {"application/json": from_json, "application/yaml": from_yaml}
UNREADABLE = frozenset({"malformed_json", "malformed_yaml"})


class BodyLimit:
    """Ends a request whose body has too many bytes, declared or counted, or takes too long to arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._declares_too_much(Headers(scope=scope)):
            await for_error(scope, self._too_large())(scope, receive, send)
        else:
            await self.app(scope, self._bounded(receive), send)

    def _declares_too_much(self, headers: Headers) -> bool:
        declared = headers.get("content-length", "0")
        return not declared.isascii() or not declared.isdigit() or len(declared) > 15 or int(declared) > self.max_bytes

    def _bounded(self, receive: Receive) -> Receive:
        counted = 0
        ended = False
        deadline = asyncio.get_running_loop().time() + self.max_seconds

        async def bounded() -> Message:
            nonlocal counted, ended
            if ended:  # what comes now is the disconnect, which a stream may await for hours
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(BODY_TOO_SLOW, f"The body must arrive within {self.max_seconds:g} seconds.") from None
            counted += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if counted > self.max_bytes:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> ProblemError:
        return ProblemError(BODY_TOO_LARGE, f"A body has at most {self.max_bytes} bytes.", [too_large(self.max_bytes)])


async def read_bytes(request: Request) -> bytes:
    """The whole body, as it came."""
    return await request.body()


def read_document(request: Request, raw: Annotated[bytes, Depends(read_bytes)]) -> Any:
    """The body's value: JSON or YAML by its content type, plain to the last leaf. Sync, so that parsing leaves the event loop free.

    Raises ProblemError (415, 400 when it cannot be read at all) and InvalidInput (422 when what it holds is not acceptable).
    """
    read = READERS.get(media_type(request))
    if read is None:
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, "Send application/json or application/yaml, in UTF-8.")
    if read is from_yaml and len(raw) > MAX_YAML_BYTES:
        raise ProblemError(BODY_TOO_LARGE, f"A YAML body has at most {MAX_YAML_BYTES} bytes; send JSON.", [too_large(MAX_YAML_BYTES)])
    try:
        return plain(read(raw.decode("utf-8")))
    except UnicodeDecodeError:
        raise ProblemError(MALFORMED, "The body is not valid UTF-8.") from None
    except Faulty as error:
        if any(fault.code in UNREADABLE for fault in error.faults):
            raise ProblemError(MALFORMED, "The body cannot be read; see errors.", error.faults) from None
        raise InvalidInput(error.faults) from None


def media_type(request: Request) -> str:
    """The body's content type in lower case, or an empty string when its character set is not UTF-8."""
    essence, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    return essence.strip() if charset in ("", "utf-8", "utf8") else ""


Document = Annotated[Any, Depends(read_document)]
Raw = Annotated[bytes, Depends(read_bytes)]
