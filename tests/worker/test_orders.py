"""What a worker and `thaw train` hand to the trainer of a study's facts."""

from pathlib import Path
from typing import cast

from service import operations
from service.cli.training import order_of
from service.store import Store
from service.worker.context import HeldLease
from service.worker.home import CheckpointFolder
from service.worker.trial_run import TrialRun
from tests.export.conftest import NOTHING, exported_of
from tests.operations.driving import FACTS, claim_one, searches_of, spec_of
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel, PixelRange

RANGE = PixelRange(low=0, high=240, source="training_images", images=10)


def test_every_trial_and_thaw_train_get_the_range_of_pixels_that_the_check_found(embedded_store: Store, tmp_path: Path) -> None:
    study = operations.create_study(embedded_store, spec_of())
    operations.pass_check(embedded_store, study.id, FACTS.model_copy(update={"pixel_range": RANGE}))
    claim = claim_one(embedded_store, searches_of(), "w")
    order = TrialRun(0, claim, cast(HeldLease, None), shared=False).order(CheckpointFolder(tmp_path, "w"))
    assert order.expected == FACTS.model_copy(update={"pixel_range": RANGE})
    config = ImageClassificationConfig(data=ImageData(path="data"), model=ImageModel(name="small_cnn"))
    exported = exported_of(config, NOTHING.model_copy(update={"pixel_range": RANGE}))
    assert order_of(exported, None, None).expected == NOTHING.model_copy(update={"pixel_range": RANGE})
