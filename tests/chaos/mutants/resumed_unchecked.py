"""A study that failed goes on without another look at its data."""

from dataclasses import replace

from service.store.unit_of_work import StudyUnitOfWork

SCENARIO = "tests/chaos/test_f20_reopening.py -k sqlite"


def plant() -> None:
    from service.operations import studies

    resume = studies._resume

    def carelessly(uow: StudyUnitOfWork) -> None:
        resume(uow)
        uow.study = replace(uow.study, recheck=False)

    studies._resume = carelessly
