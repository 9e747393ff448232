"""Requests with an Idempotency-Key: they take effect at most once, and repetitions get the first response."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response, status

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.operations import Idempotency, Replay
from service.store import Store, Transaction, queries
from service.web.body import Raw, media_type
from service.web.dependencies import Disk, TheDisk

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
