"""Transactions and sessions as both databases give them."""

import sqlite3
import threading
import time
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from service.domain.errors import InvalidInput, StoreUnavailable
from service.store import Store, engine, open_store
from service.store.engine import journal_mode


def setting(store: Store, statement: str) -> object:
    with store.reading() as tx:
        return tx.scalar(text(statement))


def test_sqlite_syncs_in_full_and_keeps_foreign_keys(embedded_store: Store) -> None:
    assert setting(embedded_store, "PRAGMA synchronous") == 2
    assert setting(embedded_store, "PRAGMA foreign_keys") == 1
    assert setting(embedded_store, "PRAGMA busy_timeout") == 10_000
    assert setting(embedded_store, "PRAGMA journal_mode") == journal_mode(sqlite3.sqlite_version_info).lower()


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 40, 1), "TRUNCATE"),
        ((3, 44, 5), "TRUNCATE"),
        ((3, 44, 6), "WAL"),
        ((3, 45, 0), "TRUNCATE"),
        ((3, 50, 6), "TRUNCATE"),
        ((3, 50, 7), "WAL"),
        ((3, 51, 2), "TRUNCATE"),
        ((3, 51, 3), "WAL"),
        ((3, 52, 0), "WAL"),
    ],
)
def test_a_write_ahead_log_is_used_only_where_several_writers_cannot_corrupt_it(version: tuple[int, ...], mode: str) -> None:
    assert journal_mode(version) == mode


def test_a_postgresql_session_waits_and_idles_only_so_long(empty_postgresql: str) -> None:
    store = open_store(empty_postgresql)
    assert setting(store, "SHOW lock_timeout") == "5s"
    assert setting(store, "SHOW statement_timeout") == "30s"
    assert setting(store, "SHOW idle_in_transaction_session_timeout") == "10s"
    store.close()


def test_a_postgresql_session_commits_to_the_disk_whatever_the_databases_default(empty_postgresql: str) -> None:
    with psycopg.connect(empty_postgresql, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {make_url(empty_postgresql).database} SET synchronous_commit = off".encode())
    with psycopg.connect(empty_postgresql) as other:
        assert other.execute("SHOW synchronous_commit").fetchone() == ("off",)
    store = open_store(empty_postgresql)
    assert setting(store, "SHOW synchronous_commit") == "on"
    store.close()


def test_a_reader_sees_one_state_of_the_database(store: Store, monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setattr(engine, "BUSY_MILLISECONDS", 50)
    other = open_store(database_url)

    def write() -> None:
        try:
            with other.writing() as tx:
                tx.execute(text("INSERT INTO idempotency VALUES ('k', 'hash', NULL, 0, NULL)"))
        except StoreUnavailable:
            assert other.embedded, "only SQLite lets a writer wait for readers"

    with store.reading() as tx:
        assert tx.scalar(text("SELECT count(*) FROM idempotency")) == 0
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        assert tx.scalar(text("SELECT count(*) FROM idempotency")) == 0
    write() if other.embedded else None
    assert setting(store, "SELECT count(*) FROM idempotency") == 1
    other.close()


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.writing() as tx:
        tx.execute(text("INSERT INTO idempotency VALUES ('k', 'hash', NULL, 0, NULL)"))
        raise ZeroDivisionError
    assert setting(store, "SELECT count(*) FROM idempotency") == 0


def test_a_locked_database_is_unavailable_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_MILLISECONDS", 20)
    store = open_store(f"sqlite:///{tmp_path / 'folder' / 'some.db'}")
    with store.writing() as tx:
        tx.execute(text("CREATE TABLE t (a INTEGER)"))
    holder = sqlite3.connect(tmp_path / "folder" / "some.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable), store.writing() as tx:
        tx.execute(text("INSERT INTO t VALUES (1)"))
    holder.close()
    with store.writing() as tx:
        tx.execute(text("INSERT INTO t VALUES (1)"))
    store.close()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = open_store("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable), store.reading():
        pass


def test_a_server_that_was_made_read_only_takes_no_write(empty_postgresql: str) -> None:
    store = open_store(empty_postgresql)
    with store.writing() as tx:
        tx.execute(text("CREATE TABLE t (a INTEGER)"))
    with psycopg.connect(empty_postgresql, autocommit=True) as owner:
        for word in ("on", "off"):
            owner.execute(f"ALTER DATABASE {store.engine.url.database} SET default_transaction_read_only = {word}".encode())
            store.close()  # sessions take the setting when they begin
            assert setting(store, "SELECT count(*) FROM t") == 0
            if word == "on":
                with pytest.raises(StoreUnavailable), store.writing() as tx:
                    tx.execute(text("INSERT INTO t VALUES (1)"))
    with store.writing() as tx:
        tx.execute(text("INSERT INTO t VALUES (1)"))
    store.close()


def test_a_client_that_freezes_in_a_transaction_loses_its_lock(empty_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"lock_timeout": 200, "statement_timeout": 5_000, "idle_in_transaction_session_timeout": 1_000}
    monkeypatch.setattr(engine, "POSTGRESQL_LIMITS", limits)
    store, frozen = open_store(empty_postgresql), open_store(empty_postgresql)
    with store.writing() as tx:
        tx.execute(text("CREATE TABLE t (a INTEGER)"))
        tx.execute(text("INSERT INTO t VALUES (1)"))
    holder = frozen.engine.connect()
    holder.execute(text("UPDATE t SET a = 2"))
    refused = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with store.writing() as tx:
                tx.execute(text("UPDATE t SET a = 3"))
            break
        except StoreUnavailable:
            refused += 1
    assert refused > 0
    assert setting(store, "SELECT a FROM t") == 3
    holder.invalidate()
    holder.close()
    store.close()
    frozen.close()


def test_a_session_that_the_server_ended_is_replaced_unnoticed(empty_postgresql: str) -> None:
    store = open_store(empty_postgresql)
    pid = setting(store, "SELECT pg_backend_pid()")
    with psycopg.connect(empty_postgresql, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert setting(store, "SELECT 1") == 1
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_a_url_of_another_kind_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"sqlite:///file"):
        open_store(url)


@pytest.mark.parametrize(("before", "version"), [("wal", (3, 40, 1)), ("delete", (3, 52, 0))])
def test_a_file_keeps_its_journal_mode_whatever_this_sqlite_would_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: str, version: tuple[int, ...]
) -> None:
    file = tmp_path / "thawline.db"
    other = sqlite3.connect(file)
    other.execute(f"PRAGMA journal_mode = {before}")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    engine._warn_of_wal.cache_clear()
    store = open_store(f"sqlite:///{file}")
    with store.writing() as tx:  # while the other process has it open
        tx.execute(text("INSERT INTO t VALUES (1)"))
    assert setting(store, "PRAGMA journal_mode") == ("wal" if before == "wal" else "truncate")
    assert ("is in WAL mode" in caplog.text) is (before == "wal")
    store.close()
    assert other.execute("SELECT x FROM t").fetchall() == [(1,)]
    other.close()
    again = sqlite3.connect(file)
    assert again.execute("PRAGMA journal_mode").fetchone()[0] == before
    again.close()
