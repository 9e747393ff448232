"""A report that is sent again, because no answer came, is told again to all who follow."""

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    from service.operations import recording

    recording._new_reports = lambda uow, trial, reports: list(reports)
