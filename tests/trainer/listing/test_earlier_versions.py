"""Documents and facts of version 0.1."""

from trainer.checkpoints import digest
from trainer.configuration import ListingFacts
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel, NearDuplicates


def test_what_version_0_1_did_not_have_is_not_written_while_it_has_its_default() -> None:
    assert set(ImageData(path="a").model_dump()) >= {"path", "validation", "test", "seed", "location"}
    new = {"split", "root", "columns", "similar_labels"}
    assert not new & set(ImageData(path="a").model_dump()) and not new & set(ImageData(path="a").model_dump(mode="json"))
    changed = ImageData(path="a.csv", split="given", root="b", columns={"label": "c"}, similar_labels="keep")
    assert new <= set(changed.model_dump()) and ImageData.model_validate_json(changed.model_dump_json()) == changed
    facts = ImageClassificationInfo(
        classes=("a",),
        images={},
        fingerprint="",
        split="",
        weights_sha256=None,
        near_duplicates=NearDuplicates(groups=0, images=0, crossing=0, mixed=0),
    )
    assert "listing" not in facts.model_dump() and "across" not in facts.model_dump()["near_duplicates"]


def test_files_that_are_left_out_do_not_part_a_run_from_its_checkpoints() -> None:
    run = ImageClassificationConfig(data=ImageData(path="a"), model=ImageModel(name="small_cnn"))
    facts = ImageClassificationInfo(classes=("a",), images={}, fingerprint="", split="", weights_sha256=None)
    assert digest(run, facts) == digest(run, facts.model_copy(update={"listing": ListingFacts(notes=("A note.",))}))
