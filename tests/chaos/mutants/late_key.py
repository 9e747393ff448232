"""An Idempotency-Key is stored after the effect, in a transaction of its own."""

import time
from typing import Any, TypeVar

from service.web.requests import Effect, KeptAnswer

T = TypeVar("T")

SCENARIO = "tests/chaos/test_f12_lost_messages.py -k sqlite-at_once"


def plant() -> None:
    from service.operations import idempotency as keys
    from service.store import Transaction, queries, registry
    from service.store.engine import Store
    from service.web.requests import KeyedRequest

    ask = KeyedRequest._once

    def look(tx: Transaction, idempotency: keys.Idempotency | None) -> None:
        if idempotency and idempotency.key and (text := queries.find_answer(tx, idempotency.key, idempotency.request_sha256)) is not None:
            raise keys.Replay(text)

    def write(tx: Transaction, idempotency: keys.Idempotency | None, result: Any) -> None:
        if idempotency is not None:
            idempotency.text = idempotency.answer(tx, result)

    def late(self: KeyedRequest, store: Store, effect: Effect[T], answer: KeptAnswer[T]) -> str:
        text = ask(self, store, effect, answer)
        time.sleep(0.05)
        if self.key is not None:
            with store.writing() as tx:
                if queries.find_answer(tx, self.key, self.sha256) is None:
                    registry.reserve_key(tx, self.key, self.sha256)
                    registry.answer_key(tx, self.key, text, None)
        return text

    keys.take, keys.keep = look, write
    KeyedRequest._once = late  # type: ignore[method-assign]
