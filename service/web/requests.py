"""Requests: limits on the body, parsing of JSON and YAML, their OpenAPI schemas, and idempotency keys."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request, Response, status
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_spaces import Fault, Faulty
from search_spaces.documents import MAX_BYTES, MAX_YAML_BYTES, from_json, from_yaml, plain, too_large
from service.domain.errors import InvalidInput
from service.domain.parsing import MOST_QUEUED
from service.operations import Idempotency, Replay
from service.store import Store, Transaction, queries
from service.web.dependencies import Disk, TheDisk
from service.web.problems import BODY_TOO_LARGE, BODY_TOO_SLOW, MALFORMED, UNSUPPORTED_MEDIA_TYPE, ProblemError, for_error
from trainer.configuration import FIRST_TASK
from trainer.tasks.capabilities import ExampleStudy
from trainer.tasks.registry import spec_of

MAX_SECONDS = 30.0
READERS = {"application/json": from_json, "application/yaml": from_yaml}
UNREADABLE = frozenset({"malformed_json", "malformed_yaml"})


class BodyLimitMiddleware:
    """Refuses bodies that have too many bytes, declared or received, or that take too long to arrive.

    `larger`: maximum bytes and seconds of paths that accept more than the default.
    """

    # Not FastAPI's `max_body_size`: it has no limit on time, answers a declared length above the limit with plain text instead of a
    # problem, and takes a Content-Length that is no number for none.

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int = MAX_BYTES,
        max_seconds: float = MAX_SECONDS,
        larger: Mapping[str, tuple[int, float]] = MappingProxyType({}),
    ) -> None:
        self.app = app
        self.limits = (max_bytes, max_seconds)
        self.larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        max_bytes, max_seconds = self.larger.get(scope["path"], self.limits)
        if _declares_too_much(Headers(scope=scope), max_bytes):
            await for_error(scope, _too_large(max_bytes))(scope, receive, send)
        else:
            await self.app(scope, self._bounded(receive, max_bytes, max_seconds), send)

    @staticmethod
    def _bounded(receive: Receive, max_bytes: int, max_seconds: float) -> Receive:
        counted = 0
        ended = False
        deadline = asyncio.get_running_loop().time() + max_seconds

        async def bounded() -> Message:
            nonlocal counted, ended
            if ended:  # only http.disconnect can follow; a stream may wait hours for it, so the deadline does not apply
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(BODY_TOO_SLOW, f"The body must arrive within {max_seconds:g} seconds.") from None
            counted += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if counted > max_bytes:
                raise _too_large(max_bytes)
            return message

        return bounded


def _declares_too_much(headers: Headers, max_bytes: int) -> bool:
    declared = headers.get("content-length", "0")
    return not declared.isascii() or not declared.isdigit() or len(declared) > 15 or int(declared) > max_bytes


def _too_large(max_bytes: int) -> ProblemError:
    return ProblemError(BODY_TOO_LARGE, f"The body must not exceed {max_bytes} bytes.", [too_large(max_bytes)])


async def read_bytes(request: Request) -> bytes:
    """The raw body."""
    return await request.body()


def read_document(request: Request, raw: Annotated[bytes, Depends(read_bytes)]) -> Any:
    """Parse the body as JSON or YAML, by its content type, into plain values.

    Not `async`, so that FastAPI parses in a worker thread and the event loop stays free.
    Raises ProblemError (415, or 400 for a body that cannot be parsed) and InvalidInput (422 for values that are not allowed).
    """
    read = READERS.get(media_type(request))
    if read is None:
        raise ProblemError(UNSUPPORTED_MEDIA_TYPE, "Send application/json or application/yaml, in UTF-8.")
    if read is from_yaml and len(raw) > MAX_YAML_BYTES:
        raise ProblemError(BODY_TOO_LARGE, f"A YAML body must not exceed {MAX_YAML_BYTES} bytes; send JSON.", [too_large(MAX_YAML_BYTES)])
    try:
        return plain(read(raw.decode("utf-8")))
    except UnicodeDecodeError:
        raise ProblemError(MALFORMED, "The body is not valid UTF-8.") from None
    except Faulty as error:
        if any(fault.code in UNREADABLE for fault in error.faults):
            raise ProblemError(MALFORMED, "The body cannot be parsed; see errors.", error.faults) from None
        raise InvalidInput(error.faults) from None


def media_type(request: Request) -> str:
    """The body's media type in lower case; an empty string if its charset is not UTF-8."""
    essence, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    return essence.strip() if charset in ("", "utf-8", "utf8") else ""


Document = Annotated[Any, Depends(read_document)]
Raw = Annotated[bytes, Depends(read_bytes)]


_TASK = spec_of(FIRST_TASK)
STUDY: Mapping[str, Any] = _TASK.example_study if isinstance(_TASK, ExampleStudy) else {}
STUDY_YAML = _TASK.example_study_yaml if isinstance(_TASK, ExampleStudy) else ""

STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/StudySpec"}, "example": STUDY},
            "application/yaml": {"schema": {"type": "string"}, "example": STUDY_YAML},
        },
    }
}

ANY_STUDY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {}, "example": STUDY}, "application/yaml": {"schema": {}, "example": STUDY_YAML}},
    }
}
"""Any value: the check also accepts an incomplete study."""


def _object_with(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly this field."""
    return {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}


MANY = {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": MOST_QUEUED}

TRIAL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_object_with("params", {"type": "object"}), _object_with("trials", MANY)]},
                "example": {"params": {"lr": 0.003, "batch_size": 32, "optimizer": "adam", "frozen_layers": 4}},
            }
        },
    }
}

OBJECTIVE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _object_with("metric", {"type": "string"}), "example": {"metric": "f1"}}},
    }
}

BUDGET_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [_object_with("budget", {"type": "object"}), _object_with("add", {"type": "object"})]},
                "examples": {"set": {"value": {"budget": {"trials": 60}}}, "add": {"value": {"add": {"trials": 20}}}},
            }
        },
    }
}


KEY = re.compile(r"[\x21-\x7e]{1,200}\Z")

T = TypeVar("T")
Effect = Callable[[Idempotency], T]
KeptAnswer = Callable[[Transaction, T], str]


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """An unsafe request: its idempotency key, if any, the SHA-256 of its content, and the disk that it needs space on.

    A request is a repetition if its key was used before; it gets the first response, and `effect` is not called. A repetition that
    arrives while the first request is in progress waits for it. The study or trial in its path must still exist.
    """

    key: str | None
    sha256: str
    disk: Disk

    def create(self, store: Store, effect: Effect[T], answer: KeptAnswer[T], location: str) -> Response:
        """201 with the created object. `location` is a format string over the fields of the response. Raises DiskFull."""

        def create_if_space(once: Idempotency) -> T:
            self.disk.require_room()
            return effect(once)

        text = self._once(store, create_if_space, answer)
        return Response(text, status.HTTP_201_CREATED, {"Location": location.format_map(json.loads(text))}, "application/json")

    def change(self, store: Store, effect: Effect[T], answer: KeptAnswer[T]) -> Response:
        """200 with the changed object."""
        return Response(self._once(store, effect, answer), media_type="application/json")

    def remove(self, store: Store, effect: Effect[None]) -> Response:
        """204 after `effect` has removed the object."""
        self._once(store, effect, lambda _tx, _nothing: "")
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    def _once(self, store: Store, effect: Effect[T], answer: KeptAnswer[T]) -> str:
        if self.key is not None and (known := store.read(queries.find_answer, self.key, self.sha256)) is not None:
            return known
        once = Idempotency(self.key, self.sha256, answer)
        try:
            effect(once)
        except Replay as replay:
            return replay.answer
        return once.text


def keyed_request(
    request: Request,
    raw: Raw,
    disk: TheDisk,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="a unique text chosen by the client; for 48 hours, a repetition with this key gets the first response and has no "
            "further effect",
            examples=["6f1c-create-digits"],
        ),
    ] = None,
) -> KeyedRequest:
    """The request with its key. Raises InvalidInput unless the key has 1 to 200 visible ASCII characters."""
    if key is not None and not KEY.match(key):
        raise InvalidInput([Fault(("header", "Idempotency-Key"), "invalid_key", "must have 1 to 200 visible ASCII characters")])
    url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    # The digest detects a key that is reused for another request (422); the NUL bytes keep the parts apart.
    content = b"\0".join((request.method.encode(), url.encode(), media_type(request).encode(), raw))
    return KeyedRequest(key, hashlib.sha256(content).hexdigest(), disk)


Keyed = Annotated[KeyedRequest, Depends(keyed_request)]
