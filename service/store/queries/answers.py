"""What the server itself keeps: answers that were given under an Idempotency-Key, and the key of its session cookies."""

import time

from sqlalchemy import select

from service.store.engine import Transaction
from service.store.registry import ANSWER, KEYS_KEPT_SECONDS, stored_answer
from service.store.schema import idempotency
from service.store.schema import session_key as stored_session_key


def answer_under(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """What the request was answered when it came with this key before. Raises IdempotencyConflict, StudyDeleted."""
    kept = (idempotency.c.key == key) & (idempotency.c.at >= time.time() - KEYS_KEPT_SECONDS)
    stored = tx.execute(select(*ANSWER).where(kept)).one_or_none()
    return None if stored is None else stored_answer(*stored, request_sha256)


def session_key(tx: Transaction) -> str:
    """The random key of this database under which session cookies are signed."""
    return str(tx.execute(select(stored_session_key.c.key)).scalar_one())
