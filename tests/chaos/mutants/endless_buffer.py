"""A worker keeps all that a trainer prints until somebody looks, however much it is, and a line until it ends."""

SCENARIO = "tests/chaos/test_f11_outcomes.py -k whatever"


def plant() -> None:
    from service.worker import process, transcript

    transcript.MOST_BYTES = 2**40
    process.LONGEST_LINE = 2**40
