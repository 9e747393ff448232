"""A worker goes on claiming trials of a study whose data it cannot read."""

SCENARIO = "tests/chaos/test_f19_missing_data.py -k 'sqlite and leaves'"


def plant() -> None:
    from service.worker.store_client import UnavailableStudies

    UnavailableStudies.ids = lambda self: frozenset()  # type: ignore[method-assign]
