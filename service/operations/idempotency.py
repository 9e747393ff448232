"""A request that is sent twice has one effect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.domain.records import Study, Trial
from service.store import Transaction, registry

Created = Study | Trial | Sequence[Trial]


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's key, the digest of its request, and how the answer to store is written from the result."""

    key: str
    request_sha256: str
    answer: Callable[[Created], str]


class Replay(Exception):
    """The request was answered before: `answer` is what was stored then. Nothing was done now."""

    def __init__(self, answer: str) -> None:
        super().__init__("This Idempotency-Key was used for the same request before.")
        self.answer = answer


def take(tx: Transaction, idempotency: Idempotency | None) -> None:
    """Take the key for this transaction, before anything else. Raises Replay, IdempotencyConflict."""
    if idempotency is None:
        return
    answer = registry.reserve_key(tx, idempotency.key, idempotency.request_sha256)
    if answer is not None:
        raise Replay(answer)


def keep(tx: Transaction, idempotency: Idempotency | None, result: Created) -> None:
    """Store the answer with the effect."""
    if idempotency is not None:
        registry.answer_key(tx, idempotency.key, idempotency.answer(result))
