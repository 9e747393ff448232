"""Reads of what tells which images a study was checked with."""

from sqlalchemy import select

from service.store.engine import Transaction
from service.store.schema import manifest as kept


def manifest(tx: Transaction, study_id: str) -> str | None:
    """As trainer.contract.Checked has it; None where nobody has said it."""
    digests: str | None = tx.scalar(select(kept.c.digests).where(kept.c.study_id == study_id))
    return digests
