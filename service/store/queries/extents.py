"""How far the events of studies go: what one look for all open streams asks."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from service.domain.states import StudyState
from service.store.engine import Transaction
from service.store.schema import VISIBLE, study


class Extent(NamedTuple):
    """The last event of a study, and whether none will ever follow."""

    seq: int
    ended: bool


# Asked ten times a second while a stream is open, and built once.
EXTENTS = select(study.c.id, study.c.seq, study.c.state).where(study.c.id.in_(bindparam("ids", expanding=True)), VISIBLE)


def extents(tx: Transaction, ids: Sequence[str]) -> dict[str, Extent]:
    """The extent of each of the studies that there are, by its key."""
    return {key: Extent(seq, StudyState(state).terminal) for key, seq, state in tx.execute(EXTENTS, {"ids": ids})}
