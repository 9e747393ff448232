"""Nothing compares the trials that were created with the budget."""

from service.domain.spec import MAX_TRIALS, Budget

SCENARIO = "tests/chaos/test_f15_model.py -k sqlite"


def plant() -> None:
    Budget.max_trials = property(lambda self: MAX_TRIALS)  # type: ignore[assignment,method-assign]
