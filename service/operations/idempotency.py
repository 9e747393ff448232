"""Idempotency keys: a repeated request returns the stored answer and has no second effect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.domain.records import Study, Trial
from service.store import Transaction, queries, registry


@dataclass(slots=True)
class Idempotency:
    """The client's idempotency key, if it sent one, and the function that formats the answer.

    `answer` is called in the transaction of the write, with the write's result. `text` then holds the answer.
    """

    key: str | None
    request_sha256: str
    answer: Callable[[Transaction, Any], str]
    text: str = ""


class Replay(Exception):
    """The request was answered before; `answer` is the stored answer. The transaction has no effect."""

    def __init__(self, answer: str) -> None:
        super().__init__("This Idempotency-Key was used for the same request before.")
        self.answer = answer


def take(tx: Transaction, idempotency: Idempotency | None) -> None:
    """Reserve the key, before any other write of the transaction. Raises Replay, IdempotencyConflict."""
    if idempotency is None or idempotency.key is None:
        return
    answer = registry.reserve_key(tx, idempotency.key, idempotency.request_sha256)
    if answer is not None:
        raise Replay(answer)


def refuse_answered(tx: Transaction, idempotency: Idempotency | None) -> None:
    """Raises Replay when the request was answered before, IdempotencyConflict when another request used its key. Reserves no key."""
    if idempotency is None or idempotency.key is None:
        return
    if (answer := queries.find_answer(tx, idempotency.key, idempotency.request_sha256)) is not None:
        raise Replay(answer)


def release(tx: Transaction, idempotency: Idempotency) -> None:
    """Free the key that `take` reserved, for a transaction after which the request is still unanswered."""
    if idempotency.key is not None:
        registry.release_key(tx, idempotency.key)


def keep(tx: Transaction, idempotency: Idempotency | None, result: Any) -> None:
    """Format the answer, and store it in the transaction of the write."""
    if idempotency is None:
        return
    idempotency.text = idempotency.answer(tx, result)
    if idempotency.key is not None:
        registry.answer_key(tx, idempotency.key, idempotency.text, _study_of(result))


def _study_of(result: Any) -> str | None:
    """The id of the study in the result, or of the trial's study; None for the result of a deletion."""
    match result:
        case Study():
            return result.id
        case Trial():
            return result.study
        case [Trial() as first, *_]:
            return first.study
        case _:
            return None
