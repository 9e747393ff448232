"""A worker keeps a thousand times as much of what a trainer prints between two looks."""

SCENARIO = "tests/chaos/test_f11_outcomes.py -k whatever"


def plant() -> None:
    from service.worker import logs

    logs.MOST_BYTES *= 1_000
