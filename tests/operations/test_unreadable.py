"""A study whose row cannot be read holds up no other, and can be deleted."""

import pytest
from sqlalchemy import update

from service import operations
from service.domain.errors import LeaseLost, StudyNotFound, StudyUnreadable
from service.domain.records import Claim, Study
from service.operations import Searches
from service.store import Store, queries
from service.store.schema import study as study_table
from tests.operations.driving import CRASH, claim_one, ready, tell


@pytest.fixture
def claim(store: Store, study: Study, searches: Searches) -> Claim:
    """A trial that runs."""
    return claim_one(store, searches)


@pytest.fixture
def damaged(store: Store, study: Study, claim: Claim) -> Study:
    """A study with a running trial, whose spec is not one any more."""
    with store.writing() as tx:
        tx.execute(update(study_table).where(study_table.c.id == study.id).values(spec='{"name": 5}'))
    return study


def test_it_is_left_out_of_lists_and_the_page_is_full_all_the_same(store: Store, damaged: Study) -> None:
    older = store.read(queries.studies)
    first, second = ready(store, name="first"), ready(store, name="second")
    assert older == []
    with store.writing() as tx:
        tx.execute(update(study_table).where(study_table.c.id == first.id).values(created_at=damaged.created_at - 1))
    assert [one.id for one in store.read(queries.studies, limit=2)] == [second.id, first.id]


def test_other_studies_are_checked_and_claimed_from(store: Store, damaged: Study, searches: Searches) -> None:
    other = operations.create_study(store, damaged.spec.model_copy(update={"name": "other"}))
    unchecked = store.read(queries.unchecked_study)
    assert unchecked is not None
    assert unchecked.id == other.id
    operations.delete_study(store, other.id)
    sound = ready(store, name="sound")
    assert {one.lease.study for one in operations.claim(store, searches, "w", limit=3)} == {sound.id}


def test_whoever_names_it_is_told(store: Store, damaged: Study) -> None:
    with pytest.raises(StudyUnreadable, match="delete"):
        store.read(queries.find_study, damaged.name)
    with pytest.raises(StudyUnreadable):
        operations.stop_study(store, damaged.id)


def test_its_workers_stop_and_its_leases_disturb_no_reaper(store: Store, damaged: Study, claim: Claim, searches: Searches) -> None:
    assert not tell(store, claim.lease, outcome=CRASH)
    with pytest.raises(LeaseLost):
        operations.decide(store, searches, claim.lease, {1: 0.5})
    assert operations.requeue_lost(store, store.read(queries.running_leases)) == 0


def test_it_can_be_deleted(store: Store, damaged: Study) -> None:
    operations.delete_study(store, damaged.name)
    with pytest.raises(StudyNotFound):
        store.read(queries.find_study, damaged.id)
