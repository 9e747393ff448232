"""Requests with an Idempotency-Key: at most one effect, and the first answer to every repetition."""

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
    """A request that changes something: its key, if it has one, the digest of what it asks for, and the disk that has to hold it.

    A repetition is told by its key alone, and gets the first answer: `effect` is not asked again. One that comes while the first is
    under way waits for it. What its path names must still be there.
    """

    key: str | None
    sha256: str
    disk: Disk

    def create(self, store: Store, effect: Effect[T], answer: KeptAnswer[T], location: str) -> Response:
        """201 with what `effect` made. `location` is a template over the answer's fields. Raises DiskFull."""

        def made(once: Idempotency) -> T:
            self.disk.require_room()
            return effect(once)

        text = self._once(store, made, answer)
        return Response(text, status.HTTP_201_CREATED, {"Location": location.format_map(json.loads(text))}, "application/json")

    def change(self, store: Store, effect: Effect[T], answer: KeptAnswer[T]) -> Response:
        """200 with what `effect` changed, as it is then."""
        return Response(self._once(store, effect, answer), media_type="application/json")

    def remove(self, store: Store, effect: Effect[None]) -> Response:
        """204 when `effect` has removed it."""
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
            description="any text of your own; a repetition with it has no further effect, and gets the first answer for 48 hours",
            examples=["6f1c-create-digits"],
        ),
    ] = None,
) -> KeyedRequest:
    """The request with its key. Raises InvalidInput when the key is no plain text of at most 200 characters."""
    if key is not None and not KEY.match(key):
        raise InvalidInput([Fault(("header", "Idempotency-Key"), "invalid_key", "a key has 1 to 200 visible ASCII characters")])
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    asked = b"\0".join((request.method.encode(), address.encode(), media_type(request).encode(), raw))
    return KeyedRequest(key, hashlib.sha256(asked).hexdigest(), disk)


Keyed = Annotated[KeyedRequest, Depends(keyed_request)]
