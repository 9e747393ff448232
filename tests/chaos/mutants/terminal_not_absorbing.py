"""A worker may write to its trial after the end, and the trigger that would refuse it is gone."""

import sqlite3

from sqlalchemy import Engine, event

from service.domain.records import Lease
from service.domain.states import TrialState
from service.store.rows import HeldTrial

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.operations import recording

    def holds(trial: HeldTrial, lease: Lease) -> bool:
        return trial.attempt == lease.attempt and trial.state is not TrialState.QUEUED

    recording._holds_lease = holds
    event.listen(Engine, "connect", _drop_trigger)


def _drop_trigger(connection: object, _record: object) -> None:
    assert isinstance(connection, sqlite3.Connection)
    connection.execute("DROP TRIGGER IF EXISTS trial_end_absorbs")
