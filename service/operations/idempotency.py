"""A request that is sent twice has one effect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.domain.records import Study, Trial
from service.store import Transaction, queries, registry


@dataclass(slots=True)
class Idempotency:
    """How a request is answered, and the client's key under which the answer is kept, if it sent one.

    `answer` writes it from the effect's result, in the effect's transaction; then it is in `text`.
    """

    key: str | None
    request_sha256: str
    answer: Callable[[Transaction, Any], str]
    text: str = ""


class Replay(Exception):
    """The request was answered before: `answer` is what was stored then. Nothing was done now."""

    def __init__(self, answer: str) -> None:
        super().__init__("This Idempotency-Key was used for the same request before.")
        self.answer = answer


def take(tx: Transaction, idempotency: Idempotency | None) -> None:
    """Take the key for this transaction, before anything else. Raises Replay, IdempotencyConflict."""
    if idempotency is None or idempotency.key is None:
        return
    answer = registry.reserve_key(tx, idempotency.key, idempotency.request_sha256)
    if answer is not None:
        raise Replay(answer)


def refuse_answered(tx: Transaction, idempotency: Idempotency | None) -> None:
    """Raises Replay when the request was answered before, IdempotencyConflict when its key stands for another one. Takes nothing."""
    if idempotency is None or idempotency.key is None:
        return
    if (answer := queries.find_answer(tx, idempotency.key, idempotency.request_sha256)) is not None:
        raise Replay(answer)


def keep(tx: Transaction, idempotency: Idempotency | None, result: Any) -> None:
    """Write the answer, and store it with the effect."""
    if idempotency is None:
        return
    idempotency.text = idempotency.answer(tx, result)
    if idempotency.key is not None:
        registry.answer_key(tx, idempotency.key, idempotency.text, _study_of(result))


def _study_of(result: Any) -> str | None:
    """The id of the study that the result is, or belongs to; None for the result of a deletion."""
    match result:
        case Study():
            return result.id
        case Trial():
            return result.study
        case [Trial() as first, *_]:
            return first.study
        case _:
            return None
