"""What tells which images a study was checked with is kept with the first check, and goes with the study."""

from pathlib import Path

from service import operations
from service.domain.records import Study
from service.store import Store, queries
from service.worker.home import Spool
from service.worker.store_client import StoreClient
from tests.operations.driving import FACTS, spec_of
from trainer.protocol import Checked


def test_the_first_manifest_stays(store: Store) -> None:
    study = operations.create_study(store, spec_of())
    assert store.read(queries.manifest, study.id) is None
    for digests in ("first", "second"):
        operations.pass_check(store, study.id, FACTS, digests)
    assert store.read(queries.manifest, study.id) == "first"
    operations.delete_study(store, study.id)
    assert store.read(queries.manifest, study.id) is None


def test_a_check_that_comes_without_a_manifest_leaves_none_to_come(store: Store, study: Study) -> None:
    operations.pass_check(store, study.id, FACTS, "later, of other facts perhaps")
    assert store.read(queries.manifest, study.id) is None


def test_a_worker_hands_the_manifest_on(store: Store, tmp_path: Path) -> None:
    study = operations.create_study(store, spec_of())
    StoreClient(store, "worker", Spool(tmp_path, "d" * 32)).pass_check(study, Checked(facts=FACTS, manifest="digests.parts"))
    assert store.read(queries.manifest, study.id) == "digests.parts"
