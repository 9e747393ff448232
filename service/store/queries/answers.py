"""Answers that were given under an Idempotency-Key."""

import time

from sqlalchemy import select

from service.domain.errors import IdempotencyConflict
from service.store.engine import Transaction
from service.store.registry import KEYS_KEPT_SECONDS
from service.store.schema import idempotency


def answer_under(tx: Transaction, key: str, request_sha256: str) -> str | None:
    """What the request was answered when it came with this key before. Raises IdempotencyConflict when the key stands for another one."""
    kept = (idempotency.c.key == key) & (idempotency.c.at >= time.time() - KEYS_KEPT_SECONDS)
    stored = tx.execute(select(idempotency.c.request_sha256, idempotency.c.answer).where(kept)).one_or_none()
    if stored is not None and stored.request_sha256 != request_sha256:
        raise IdempotencyConflict
    return None if stored is None else stored.answer
