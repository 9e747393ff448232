"""F3: a migration that is killed at each of its statements leaves the database as it was, and goes through in the end."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from alembic import command
from sqlalchemy import Engine, event, inspect, text

from service import operations
from service.domain.states import TrialState
from service.store import migrate, open_store, queries
from tests.chaos.lab import planted
from tests.chaos.launch import plant
from tests.forking import forkserver
from tests.operations.driving import checkpoint, claim_one, finish, searches_of, spec_of

TABLES_OF_1 = {"api_key", "artifact", "event", "idempotency", "metric", "study", "thaw_schema", "trial", "worker"}
"""The tables of the first schema."""
DROPPED = {"api_key", "artifact"}
"""Tables of the first schema that a later one drops with their rows; each row of the others is to be kept."""
FEWEST = 10  # statements of any migration; fewer were not counted


def killed_at(url: str, statement: int) -> bool:
    """Migrate in a process that dies at the statement of that number, as under `kill -9`; whether it came so far."""
    process = forkserver().Process(target=_migrate, args=(url, statement))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def _migrate(url: str, statement: int) -> None:
    plant(planted())
    numbers = count(1)

    def die(*_: object) -> None:
        if next(numbers) == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die)
    event.listen(Engine, "commit", die)
    migrate.upgrade(url)


def contents(url: str) -> dict[str, list[dict[str, object]]]:
    """All rows of all tables."""
    with closing(open_store(url)) as store, store.reading() as tx:
        selects = {name: text(f"SELECT * FROM {name}") for name in inspect(tx).get_table_names()}  # noqa: S608  (names of our own tables)
        return {name: sorted(map(dict, tx.execute(query).mappings()), key=repr) for name, query in selects.items()}


def statements_until_it_goes_through(url: str) -> Iterator[int]:
    """Kills the migration at its first statement, at its second, and so on; the number each time, until it gets through."""
    for statement in count(1):
        if not killed_at(url, statement):
            return
        yield statement


def test_a_first_schema_is_made_whole_or_not_at_all(empty_url: str) -> None:
    """I30, on an empty database."""
    for statement in statements_until_it_goes_through(empty_url):
        assert contents(empty_url) == {}, f"I30: killed at statement {statement}"
    assert migrate.check(empty_url)
    print(json.dumps({"scenario": "F3, first schema", "kills": statement}))
    assert statement >= FEWEST


@pytest.fixture
def old_url(empty_url: str) -> str:
    """A database of the first schema, with a study under way in it."""
    with closing(open_store(empty_url)) as store:
        with store.writing() as tx:
            config = migrate._config()
            config.attributes["connection"] = tx
            command.upgrade(config, "0001")
        with store.writing() as tx:
            for statement in OLD_ROWS:
                tx.execute(text(statement), {"spec": spec_of(budget={"trials": 3}).model_dump_json(), "facts": FACTS, "saved": SAVED})
    return empty_url


FACTS = '{"classes": ["cat", "dog"], "images": {"train": 8}, "fingerprint": "f", "split": "5", "weights_sha256": null}'
SAVED = json.dumps([checkpoint(1).model_dump()])
TRIAL = """
INSERT INTO trial (study_id, number, state, params, params_key, value, value_kind, metrics, step, attempt, lost, heartbeat, worker,
    checkpoints, source, memory, result, changed, queued_at, started_at, finished_at)
VALUES """
OLD_ROWS = (
    """INSERT INTO study (id, name, state, spec, facts, created, exhausted, seq, created_at, started_at)
       VALUES ('s', 'pets', 'active', :spec, :facts, 2, false, 4, 1.5, 2.5)""",
    TRIAL
    + """('s', 0, 'complete', '{"lr": 0.25}', 'a', 0.5, 'finite', '{"accuracy": 0.5}', 3, 1, 0, 4, 'gone',
        '[]', 'sampler', '{}', '{}', 2, 2.5, 2.5, 3.5)""",
    TRIAL
    + """('s', 1, 'running', '{"lr": 0.75}', 'b', NULL, 'missing', '{"accuracy": 0.1}', 1, 2, 1, 9, 'w',
        :saved, 'sampler', '{}', '{}', 4, 2.5, 2.5, NULL)""",
    "INSERT INTO metric VALUES (1, 3, 'accuracy', 1, 0.5, 'finite', 2), (2, 1, 'accuracy', 2, 0.1, 'finite', 4)",
    """INSERT INTO event VALUES ('s', 1, 'study_created', '{}', 1.5), ('s', 2, 'trial_completed', '{}', 3.5),
       ('s', 3, 'trial_started', '{}', 3.6), ('s', 4, 'trial_reported', '{}', 3.7)""",
    "INSERT INTO worker VALUES ('w', 'host', 1, 1, '[\"cpu\"]', 'alive', 1.0, 4.0)",
    "INSERT INTO api_key VALUES ('k', 'ci', 'x', 1.0, NULL)",
    "INSERT INTO idempotency VALUES ('once', 'y', '{}', 1.0)",
    "INSERT INTO artifact (study_id, trial, kind, path, sha256, size, created_at) VALUES ('s', 1, 'export', '/e', 'z', 5, 1.0)",
)


def test_rows_of_the_first_schema_outlive_a_migration_that_is_killed_at_each_statement(old_url: str) -> None:
    """I2, I30: the database stays at the first schema until a migration gets through; then everything is there, and the study goes on."""
    before = contents(old_url)
    assert set(before) == TABLES_OF_1
    for statement in statements_until_it_goes_through(old_url):
        assert contents(old_url) == before, f"I30: killed at statement {statement}"
    print(json.dumps({"scenario": "F3, migration with rows", "kills": statement}))
    assert statement >= FEWEST and migrate.check(old_url)
    after = contents(old_url)
    assert not DROPPED & set(after)
    for name in TABLES_OF_1 - DROPPED - {"thaw_schema"}:
        kept = [{column: row[column] for column in was} for row, was in zip(after[name], before[name], strict=True)]
        assert kept == before[name], f"I2: table {name}"
    the_study_goes_on(old_url)


def the_study_goes_on(url: str) -> None:
    with closing(open_store(url)) as store:
        study = store.read(queries.find_study, "pets")
        first, second = store.read(queries.trials, study.id)
        assert (first.state, first.value, first.params) == (TrialState.COMPLETE, 0.5, {"lr": 0.25})
        assert (second.state, second.attempt, second.checkpoints[0].step) == (TrialState.RUNNING, 2, 1)
        assert operations.requeue_lost(store, store.read(queries.running_leases)) == 1
        searches = searches_of()
        claims = [claim_one(store, searches) for _ in range(2)]
        assert [(claim.lease.number, claim.lease.attempt) for claim in claims] == [(1, 3), (2, 1)]
        for claim in claims:
            finish(store, claim)
        assert store.read(queries.find_study, "pets").state == "complete"
