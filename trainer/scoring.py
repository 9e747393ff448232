"""A trained model on the test images, told image by image."""

import base64
from collections.abc import Generator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.contract import MOST_SCORED, Scores
from trainer.data import BadData
from trainer.features import Inputs
from trainer.metrics import Measurement, answer, confusions, measure_lanes
from trainer.task import Task, taken

HIGHEST_LOSS = torch.finfo(torch.float16).max  # that is told of an image: what is higher would be told as infinite
Sign = TypeVar("Sign")


def require_test_images(task: Task) -> None:
    """Raises BadData where there is nothing to score a model on."""
    if not len(task.test):
        share = task.config.data.test
        raise BadData(f"there are no test images to score the trained model on: data.test is {share:g}; set it above 0, say to 0.2")


def score(task: Task, inputs: Inputs, sign: Sign) -> Generator[Sign, None, Scores]:
    """The task's model as it is, in evaluation mode; the inputs are those of the training. Yields `sign` between two batches."""
    of_test, predicted, losses = inputs.for_test(), list[Tensor](), list[Tensor]()

    def hear(logits: Tensor, labels: Tensor) -> None:
        predicted.append(logits.argmax(1))
        losses.append(F.cross_entropy(logits, labels, reduction="none"))

    yield from of_test.ready(None, sign)
    yield from answer(task, of_test, task.test, sign, hear)
    (found,) = scores(task, torch.cat(predicted)[None], torch.cat(losses)[None])
    return found


def scores(task: Task, predicted: Tensor, losses: Tensor) -> list[Scores]:
    """Of L models: predicted classes int64 [L, N] and cross entropies [L, N], in nats, of the rows `task.test`."""
    labels, losses = taken(task.labels, task.test), losses.double()
    order = labels.argsort(stable=True)  # the rows are in the order of their contents already
    measured = measure_lanes(confusions(predicted, labels, len(task.facts.classes)), losses.mean(1))
    each = zip(measured, predicted[:, order].cpu(), losses[:, order].cpu(), strict=True)
    return [_scores(task.facts.classes, measurement, classes, own) for measurement, classes, own in each]


def _scores(names: tuple[str, ...], measurement: Measurement, predicted: Tensor, losses: Tensor) -> Scores:
    told = len(predicted) <= MOST_SCORED
    return Scores(
        metrics=measurement.scalars,
        per_class_recall=dict(zip(names, measurement.per_class_recall, strict=True)),
        confusion_matrix=measurement.confusion_matrix,
        predicted=base64.b64encode(predicted.numpy().astype("<u2").tobytes()).decode() if told else None,
        losses=base64.b64encode(losses.clamp(max=HIGHEST_LOSS).numpy().astype("<f2").tobytes()).decode() if told else None,
    )
