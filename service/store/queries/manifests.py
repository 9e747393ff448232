"""Reads of manifests: the digests of the examples that a study was checked with."""

from sqlalchemy import select

from service.store.engine import Transaction
from service.store.schema import manifest as kept


def manifest(tx: Transaction, study_id: str) -> str | None:
    """As trainer.protocol.Checked has it; None where nobody has said it."""
    digests: str | None = tx.scalar(select(kept.c.digests).where(kept.c.study_id == study_id))
    return digests
