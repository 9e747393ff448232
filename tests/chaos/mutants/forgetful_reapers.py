"""What a reaper has seen of a lease that stands still is forgotten when it is restarted."""

SCENARIO = "tests/chaos/test_f03_restarts.py -k none_of_which"


def plant() -> None:
    from service import operations

    operations.record_stale_leases = lambda store, counted: []
