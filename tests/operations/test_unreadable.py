"""A study whose row cannot be read holds up no other, and can be deleted."""

import json

import pytest
from sqlalchemy import update

from service import operations
from service.domain.errors import InvalidInput, LeaseLost, StudyNotFound, StudyUnreadable
from service.domain.parsing import parse_study
from service.domain.records import Claim, Study
from service.domain.samplers import Tpe
from service.operations import Searches
from service.store import Store, queries
from service.store.schema import study as study_table
from tests.operations.driving import CRASH, claim_one, claim_trials, decide_one, ready, tell


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
    assert {one.lease.study for one in claim_trials(store, searches, limit=3)} == {sound.id}


def test_whoever_names_it_is_told(store: Store, damaged: Study) -> None:
    with pytest.raises(StudyUnreadable, match="delete"):
        store.read(queries.find_study, damaged.name)
    with pytest.raises(StudyUnreadable):
        operations.stop_study(store, damaged.id)


def test_its_workers_stop_and_its_leases_disturb_no_reaper(store: Store, damaged: Study, claim: Claim, searches: Searches) -> None:
    assert not tell(store, claim.lease, outcome=CRASH)
    with pytest.raises(LeaseLost):
        decide_one(store, searches, claim.lease, {1: 0.5})
    assert operations.requeue_lost(store, store.read(queries.running_leases)) == 0


def test_it_can_be_deleted(store: Store, damaged: Study) -> None:
    operations.delete_study(store, damaged.name)
    with pytest.raises(StudyNotFound):
        store.read(queries.find_study, damaged.id)


def test_a_stored_sampler_beyond_todays_bound_is_read_at_the_bound_and_the_log_says_so(
    store: Store, study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    document = {**study.spec.model_dump(mode="json"), "sampler": {"name": "tpe", "n_ei_candidates": 8_000}}
    with store.writing() as tx:
        tx.execute(update(study_table).where(study_table.c.id == study.id).values(spec=json.dumps(document)))
    sampler = store.read(queries.find_study, study.name).spec.sampler
    assert isinstance(sampler, Tpe) and sampler.n_ei_candidates == 1_000
    assert f"study {study.id}: sampler.n_ei_candidates is 8000 and is taken as 1000" in caplog.text


def test_a_study_with_more_candidates_than_the_bound_is_refused_by_name(store: Store, study: Study) -> None:
    document = {**study.spec.model_dump(mode="json"), "sampler": {"name": "tpe", "n_ei_candidates": 1_001}}
    with pytest.raises(InvalidInput, match=r"sampler.*n_ei_candidates.*1000"):
        parse_study(document)
