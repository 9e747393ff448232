"""A spooled result that the database does not know is dropped, whichever database it belongs to."""

SCENARIO = "tests/chaos/test_f18_homes.py -k sqlite"


def plant() -> None:
    from service.store import queries

    queries.unknown_leases = lambda tx, leases: {}
