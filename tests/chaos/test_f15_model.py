"""F15: any order of operations on real databases, compared with a small model after each of them."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import event

from service.store import Store, open_store
from tests.chaos.lab import LONG, planted, publish
from tests.chaos.machine import COUNTS, Machine

EXAMPLES = {"sqlite": 14_000, "postgresql": 6_000} if LONG else {"sqlite": 130, "postgresql": 70}
STEPS = 50 if LONG else 30


@pytest.fixture
def quick_store(database_url: str) -> Iterator[Store]:
    """A store that need not survive power cuts."""
    with closing(open_store(database_url)) as opened:
        if opened.embedded:
            event.listen(opened.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        yield opened


def test_no_order_of_operations_breaks_a_promise(quick_store: Store) -> None:
    """I7, I8, I10, I11, I14-I20, I23, I24: claims, reports, ends, repeats, zombies, cancels, stops, expiries, restarts and deletions."""
    COUNTS.clear()
    Machine.store, database = quick_store, quick_store.engine.dialect.name
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    phases = [Phase.generate] if planted() else [Phase.generate, Phase.shrink]  # a mutant's smallest example interests nobody
    chosen = settings(
        max_examples=EXAMPLES[database], stateful_step_count=STEPS, deadline=None, database=None, derandomize=False, print_blob=True,
        report_multiple_bugs=False, phases=phases, suppress_health_check=checks,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=chosen)
    figures = {"scenario": "F15", "database": database, "examples": EXAMPLES[database], **COUNTS}
    assert all(COUNTS[kind] for kind in ("claims", "repeated", "refused", "expired", "extended")), figures
    publish(figures)
