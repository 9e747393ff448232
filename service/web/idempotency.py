"""Requests with an Idempotency-Key: at most one effect, and the first answer to every repetition."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response, status

from search_spaces import Fault
from service.disk import Disk
from service.domain.errors import InvalidInput
from service.domain.records import Study, Trial
from service.operations import Idempotency, Replay
from service.store import Store, queries
from service.web.body import Raw, media_type
from service.web.dependencies import TheDisk
from service.web.view import View

KEY = re.compile(r"[\x21-\x7e]{1,200}\Z")

Created = TypeVar("Created", Study, Trial, list[Trial])


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that creates something: its key, if it has one, the digest of what it asks for, and the disk that has to hold it."""

    key: str | None
    sha256: str
    disk: Disk

    def create(
        self, store: Store, effect: Callable[[Idempotency | None], Created], view: Callable[[Created], View], location: str
    ) -> Response:
        """201 with what `effect` made, or with the stored answer when the key was used for the same request before.

        A repetition is told by its key alone: `effect` is not asked again. `location` is a template over the answer's fields.
        Raises DiskFull.
        """

        def answer(created: Created) -> str:
            return view(created).model_dump_json()

        try:
            if (text := self._first_answer(store)) is None:
                self.disk.require_room()
                text = answer(effect(self._idempotency(answer)))
        except Replay as replay:
            text = replay.answer
        return Response(text, status.HTTP_201_CREATED, {"Location": location.format_map(json.loads(text))}, "application/json")

    def _first_answer(self, store: Store) -> str | None:
        return None if self.key is None else store.read(queries.answer_under, self.key, self.sha256)

    def _idempotency(self, answer: Callable[[Created], str]) -> Idempotency | None:
        return None if self.key is None else Idempotency(self.key, self.sha256, answer)  # type: ignore[arg-type]  # of Created alone


def keyed_request(
    request: Request,
    raw: Raw,
    disk: TheDisk,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="any text of your own; a repetition with it has no further effect",
            examples=["6f1c-create-digits"],
        ),
    ] = None,
) -> KeyedRequest:
    """The request with its key. Raises InvalidInput when the key is no plain text of at most 200 characters."""
    if key is not None and not KEY.match(key):
        raise InvalidInput([Fault(("header", "Idempotency-Key"), "invalid_key", "a key has 1 to 200 visible ASCII characters")])
    asked = b"\0".join((request.method.encode(), request.url.path.encode(), media_type(request).encode(), raw))
    return KeyedRequest(key, hashlib.sha256(asked).hexdigest(), disk)


Keyed = Annotated[KeyedRequest, Depends(keyed_request)]
