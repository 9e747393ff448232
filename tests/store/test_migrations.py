"""The schema: made once, whole or not at all, and the same as the code's."""

import os
import re
import signal
from collections.abc import Iterable
from itertools import count
from typing import get_args

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from optuna.storages._rdb.models import BaseModel as OptunaTable
from sqlalchemy import Engine, event, inspect, text

from service.domain.errors import SchemaTooNew
from service.domain.states import AttemptEnd, StudyState, TrialState, ValueKind, WorkerState
from service.store import open_store
from service.store.migrate import check, upgrade
from service.store.schema import VERSION_TABLE, metadata
from tests.racing import race
from trainer.protocol import FailureReason


def tables_of(url: str) -> set[str]:
    store = open_store(url)
    with store.reading() as tx:
        names = set(inspect(tx).get_table_names())
    store.close()
    return names


def upgrade_until(url: str, statement: int) -> None:
    """Migrate, but die at the statement of that number as under `kill -9`."""
    numbers = count(1)

    def die(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die)
    upgrade(url)


def test_the_migrations_give_exactly_the_tables_of_the_code(empty_url: str) -> None:
    upgrade(empty_url)
    store = open_store(empty_url)
    with store.writing() as tx:
        tx.execute(text("CREATE TABLE trials (id INTEGER)"))  # Optuna's, in the same database
        options = {"version_table": VERSION_TABLE, "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        assert compare_metadata(MigrationContext.configure(tx, opts=options), metadata) == []
    store.close()


def test_no_table_has_the_name_of_one_of_optunas() -> None:
    assert not {*metadata.tables, VERSION_TABLE} & {*OptunaTable.metadata.tables, "alembic_version"}


def test_a_database_is_current_after_the_upgrade_and_a_second_one_changes_nothing(empty_url: str) -> None:
    assert not check(empty_url)
    upgrade(empty_url)
    assert check(empty_url)
    upgrade(empty_url)
    assert tables_of(empty_url) == {*metadata.tables, VERSION_TABLE}


def test_sixteen_servers_may_start_at_once_on_an_empty_database(empty_url: str) -> None:
    race(upgrade, empty_url, processes=16)
    assert check(empty_url)
    assert tables_of(empty_url) == {*metadata.tables, VERSION_TABLE}


@pytest.mark.parametrize("statement", [4, 9, 16, 22, 25])
def test_a_migration_that_is_killed_leaves_nothing_and_can_be_repeated(empty_url: str, statement: int) -> None:
    with pytest.raises(Exception, match="terminated abruptly"):
        race(upgrade_until, empty_url, statement, processes=1)
    assert tables_of(empty_url) == set()
    upgrade(empty_url)
    assert check(empty_url)


def test_a_newer_schema_is_refused(database_url: str) -> None:
    store = open_store(database_url)
    with store.writing() as tx:
        tx.execute(text("UPDATE thaw_schema SET version_num = '9999'"))
    store.close()
    for touch in (upgrade, check):
        with pytest.raises(SchemaTooNew, match="9999"):
            touch(database_url)


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("study", "state", StudyState),
        ("trial", "state", TrialState),
        ("trial", "value_kind", ValueKind),
        ("trial", "reason", get_args(FailureReason)),
        ("metric", "kind", ValueKind),
        ("attempt", "ending", AttemptEnd),
        ("worker", "state", WorkerState),
    ],
)
def test_the_words_in_python_are_those_that_the_database_checks(database_url: str, table: str, column: str, words: Iterable[str]) -> None:
    store = open_store(database_url)
    with store.reading() as tx:
        checks = {one["name"]: one["sqltext"] for one in inspect(tx).get_check_constraints(table)}
    store.close()
    assert set(re.findall(r"'(\w+)'", checks[f"ck_{table}_{column}"])) == {str(word) for word in words}
