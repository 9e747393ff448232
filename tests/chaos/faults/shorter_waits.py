"""How long our processes wait for a database, to the scale of the short leases here; the proportions are those of the product."""

from service.store import drivers, engine


def install() -> None:
    engine.BUSY_MILLISECONDS = 1_000
    engine.POSTGRESQL_LIMITS = {"lock_timeout": 1_000, "statement_timeout": 2_000, "idle_in_transaction_session_timeout": 1_500}
    drivers.READ_TIMEOUT_SECONDS = 2.5
