"""What happens to runs, in words: all of a run alone, and of runs that share a pass a line an epoch."""

import logging

import pytest

from trainer.checkpoints import Checkpoints
from trainer.configuration import LeftOut, ListingFacts
from trainer.learners import Member
from trainer.protocol import BatchProgress, Checkpoint, CheckpointSaved, EpochMetrics, Failed, Finished, Pace, Reuse, RunPrepared
from trainer.run_logger import RunLogger
from trainer.tasks.image_classification.config import ImageClassificationConfig, ImageClassificationInfo
from trainer.tasks.images.config import ImageData, ImageModel

FACTS = ImageClassificationInfo(
    classes=("a", "b"), images={"train": 1_200, "validation": 300}, fingerprint="f", split="s", weights_sha256=None
)
WHERE = {"device": "Xeon", "threads": "2", "precision": "float32", "torch": "2"}
SPEED = Pace(samples_per_second=1_812.3, seconds_left=1, memory=1, seconds={})
RUN = ImageClassificationConfig(data=ImageData(path="images"), model=ImageModel(name="resnet18"), epochs=8)


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trainer.run_logger")


def prepared(lane: int, lanes: int) -> RunPrepared:
    reuse = Reuse(pixels="cached", depth=9, place="disk", lanes=lanes)
    return RunPrepared(lane=lane, facts=FACTS, parameters=11_000_000, trainable=5_130, environment=WHERE, reuse=reuse)


def measured(step: int, lane: int = 0, accuracy: float = 0.75, loss: float = 0.5) -> EpochMetrics:
    metrics = {"accuracy": accuracy, "loss": loss, "f1": 0.7, "train_loss": 0.25, "lr": 0.001}
    return EpochMetrics(lane=lane, step=step, metrics=metrics, pace=SPEED)


def finished(lane: int = 0) -> Finished:
    return Finished(
        lane=lane, step=8, metrics={}, report={"per_class_recall": {}, "confusion_matrix": ()}, train_seconds=63.14, peak_memory=512_000_000
    )  # fmt: skip


def test_of_a_run_alone_each_thing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints()
    chronicle = RunLogger([Member(config=RUN, checkpoints=checkpoints)])
    chronicle.on_round([prepared(0, 1)])
    checkpoints.step = 2  # restored
    saved = CheckpointSaved(checkpoint=Checkpoint(step=3, path="p", sha256="0" * 64, size=44_700_000))
    for fact in (advanced(3), advanced(3), measured(3), saved, finished()):
        chronicle.on_event(fact)
    chronicle.close()
    assert caplog.messages == [
        "prepared resnet18, 5,130 of 11,000,000 parameters to train: Xeon, 2 threads, float32; "
        "1,200 images to train on, 300 to validate, 2 classes; images cached, the output of 9 frozen stages read from disk",
        "resumed from the checkpoint after epoch 2 of 8",
        "epoch 3 of 8: loss 0.5, accuracy 0.75, train_loss 0.25, lr 0.001, 1,812 images/s",
        "checkpoint after epoch 3: 44.7 MB",
        "finished 8 epochs in 63.1 s, peak memory 512.0 MB",
    ]


def test_what_was_left_out_of_the_data_is_logged_once_a_run(caplog: pytest.LogCaptureFixture) -> None:
    left_out = (LeftOut(reason="broken link", count=7, examples=("a.png", "b.png")),)
    listing = ListingFacts(notes=("It is said.",), unused_columns=("x",), groups=3, columns={"group": "patient"}, left_out=left_out)
    fact = prepared(0, 1)
    RunLogger([Member(config=RUN)]).on_round([fact.model_copy(update={"facts": fact.facts.model_copy(update={"listing": listing})})])
    assert caplog.messages[1:] == [
        "data: It is said.",
        "data: 3 groups by the column patient, each in one part of the split.",
        "data: Columns that are not used: x.",
        "data: Left out: 7, broken link (a.png, b.png, …).",
    ]


def advanced(epoch: int) -> BatchProgress:
    return BatchProgress(epoch=epoch, batch=1, batches=9, samples_per_second=1.0)


def test_the_end_of_a_run_that_failed_or_was_stopped_is_told(caplog: pytest.LogCaptureFixture) -> None:
    RunLogger([Member(config=RUN)]).on_event(Failed(reason="diverged", detail="the training loss was nan", step=1))
    RunLogger([Member(config=RUN)]).stopped(0)
    assert caplog.messages == ["failed after epoch 1: diverged: the training loss was nan", "stopped by the worker after epoch 0"]


def test_of_a_pass_an_epoch_is_one_line_however_many_share_it(caplog: pytest.LogCaptureFixture) -> None:
    lanes = range(128)
    chronicle = RunLogger([Member(config=RUN) for _ in lanes])
    chronicle.on_round([prepared(lane, 128) for lane in lanes])
    rounds = [[measured(1, lane, accuracy=lane / 200, loss=float("nan") if lane == 5 else 1 / (lane + 1)) for lane in lanes]]
    for fact in rounds[0]:
        chronicle.on_event(fact)
    chronicle.on_round(rounds[0])
    for lane in (1, 2, 3):
        chronicle.on_event(Failed(lane=lane, reason="diverged", detail="nan", step=1))
    chronicle.stopped(4)
    chronicle.on_round([measured(2, lane, accuracy=float("nan"), loss=float("inf")) for lane in lanes[5:]])
    for lane in lanes[5:]:
        chronicle.on_event(finished(lane))
    chronicle.close()
    assert len(caplog.messages) == 4
    assert caplog.messages[0].startswith("prepared 128 runs trained together, each resnet18, 5,130 of 11,000,000 parameters to train: Xeon")
    assert caplog.messages[1:] == [
        "epoch 1 of 8: 128 of 128 runs under way, best accuracy 0.635, lowest loss 0.007812, 1,812 images/s",
        "epoch 2 of 8: 123 of 128 runs under way, best accuracy nan, lowest loss nan, 1,812 images/s, 3 diverged, 1 stopped",
        "the batched run has ended: 3 diverged, 1 stopped, 123 finished",
    ]
