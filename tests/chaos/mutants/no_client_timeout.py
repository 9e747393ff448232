"""A worker waits for PostgreSQL's answer for ever, also on a connection that has gone dead."""

SCENARIO = "tests/chaos/test_f09_network.py::test_a_trainer_is_killed_before_anyone_else_may_claim_its_trial[postgresql]"


def plant() -> None:
    import psycopg

    from service.store.drivers import ReadTimeoutConnection

    ReadTimeoutConnection.wait = psycopg.Connection.wait  # type: ignore[method-assign]
