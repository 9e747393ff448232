"""A study that was exported and imported is the same study."""

from service import operations
from service.store import Store
from tests.travel.luggage import documents, exported, imported, mixed_study


def test_export_import_and_export_again_give_the_same_lines_but_for_id_and_name(store: Store) -> None:
    study = mixed_study(store)
    operations.stop_study(store, study.id)
    first = exported(store, study)
    second = exported(store, imported(store, first, "digits again"))
    assert documents(second) == documents(first)
    assert {line["state"] for line in documents(first)[1:-1]} == {"complete", "pruned", "failed", "cancelled"}
