"""A write is taken from whoever sends it while the trial runs, whatever its attempt."""

from service.domain.records import Lease
from service.domain.states import TrialState
from service.store.rows import HeldTrial

SCENARIO = "tests/chaos/test_f02_zombies.py -k sqlite"


def plant() -> None:
    from service.operations import recording

    def holds(trial: HeldTrial, lease: Lease) -> bool:
        return trial.state is TrialState.RUNNING

    recording._holds_lease = holds
