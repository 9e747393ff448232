"""Whatever is sent for a trial without a lease counts as a repetition of what was sent before."""

SCENARIO = "tests/chaos/test_f22_claims.py -k sqlite"


def plant() -> None:
    from service.operations import recording

    recording._is_repeat = lambda *_: True
