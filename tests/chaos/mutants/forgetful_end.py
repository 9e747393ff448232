"""A trial's end that is told a second time is taken for a lost lease."""

SCENARIO = "tests/chaos/test_f12_lost_messages.py::test_workers_that_do_not_hear_the_store_repeat_themselves[sqlite]"


def plant() -> None:
    from service.operations import recording

    recording._is_repeat = lambda *_: False
