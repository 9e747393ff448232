"""A lost worker does not count against its trial, so a trial that kills its worker circulates for ever."""

from dataclasses import replace
from typing import Literal

from service.store.rows import HeldTrial
from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_f11_outcomes.py::test_a_trial_that_kills_its_worker_ends_after_its_attempts[sqlite]"


def plant() -> None:
    from service.operations import recording

    try_again = recording._retry_or_fail

    def uncounted(uow: StudyUnitOfWork, trial: HeldTrial, reason: Literal["lost", "crashed"], why: str) -> HeldTrial:
        return try_again(uow, replace(trial, lost=0), reason, why)

    recording._retry_or_fail = uncounted
