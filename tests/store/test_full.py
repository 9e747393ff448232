"""A database that finds no room says so, loses nothing, and goes on when there is room again."""

import pytest
from sqlalchemy import text

from service.domain.errors import DiskFull, StoreUnavailable
from service.store import Store
from tests.operations.driving import ready, study_of

REFUSAL = """
CREATE FUNCTION grow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$
"""


def fill(store: Store) -> None:
    with store.writing() as tx:
        if store.embedded:
            tx.execute(text("PRAGMA max_page_count = 1"))  # as many as there are
        else:
            tx.execute(text(REFUSAL))
            tx.execute(text("CREATE TRIGGER grow BEFORE INSERT ON study FOR EACH STATEMENT EXECUTE FUNCTION grow()"))


def free(store: Store) -> None:
    with store.writing() as tx:
        tx.execute(text("PRAGMA max_page_count = 1000000" if store.embedded else "DROP TRIGGER grow ON study"))


def test_a_full_database_is_told_from_one_that_does_not_answer(store: Store) -> None:
    known = ready(store, name="before")
    fill(store)
    with pytest.raises(DiskFull, match="full") as raised:
        for number in range(50):  # some fit into what is free in the file
            ready(store, name=f"more-{number}")
    assert isinstance(raised.value, StoreUnavailable), "whoever waits for the store waits for room too"
    assert study_of(store, known) == known
    free(store)
    assert ready(store, name="after").name == "after"


def test_the_embedded_database_is_a_file(store: Store) -> None:
    assert (store.file is not None and store.file.is_file()) if store.embedded else store.file is None
