"""A trial waits for a larger device although the worker that had one is gone."""

SCENARIO = "tests/chaos/test_f21_larger_device.py -k 'killed and sqlite'"


def plant() -> None:
    from service.reaper import Reaper

    Reaper._end_waiting = lambda self, elapsed: None  # type: ignore[method-assign]
