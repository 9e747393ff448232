"""What all lanes are measured by on images that they were not trained on, in one go."""

from collections.abc import Callable, Generator
from typing import TypeVar

import torch
from torch import Tensor

from trainer.contract import Scores
from trainer.features import Inputs
from trainer.lanes.head import Heads
from trainer.metrics import Measurement, confusions, measure_lanes
from trainer.scoring import scores
from trainer.task import Task, taken

SMALLEST_BATCH = 256  # images; they are few numbers each
Sign = TypeVar("Sign")
Hear = Callable[[slice, slice, Tensor, Tensor], None]


def measure_heads(task: Task, inputs: Inputs, heads: Heads, sign: Sign) -> Generator[Sign, None, list[Measurement]]:
    """As `trainer.metrics.evaluate`, for all lanes. Yields `sign` between two batches."""
    rows = task.validation
    predicted = torch.empty((heads.lanes, len(rows)), dtype=torch.int64, device=task.device)
    losses = torch.zeros(heads.lanes, dtype=torch.float64, device=task.device)

    def hear(lanes: slice, images: slice, classes: Tensor, logs: Tensor) -> None:
        predicted[lanes, images] = classes
        losses[lanes] -= logs.sum((1, 2)).double()

    yield from _answer(task, inputs, rows, heads, sign, hear)
    matrices = confusions(predicted, taken(task.labels, rows), len(task.facts.classes))
    return measure_lanes(matrices, losses / len(rows))


def score_heads(task: Task, inputs: Inputs, heads: Heads, sign: Sign) -> Generator[Sign, None, list[Scores]]:
    """As `trainer.scoring.score`, for all lanes. Yields `sign` between two batches."""
    of_test, shape = inputs.for_test(), (heads.lanes, len(task.test))
    predicted = torch.empty(shape, dtype=torch.int64, device=task.device)
    losses = torch.empty(shape, device=task.device)

    def hear(lanes: slice, images: slice, classes: Tensor, logs: Tensor) -> None:
        predicted[lanes, images], losses[lanes, images] = classes, -logs.squeeze(1)

    yield from of_test.ready(None, sign)
    yield from _answer(task, of_test, task.test, heads, sign, hear)
    return scores(task, predicted, losses)


@torch.no_grad()
def _answer(task: Task, inputs: Inputs, rows: Tensor, heads: Heads, sign: Sign, hear: Hear) -> Generator[Sign, None, None]:
    """Tell of lanes and of images, some at a time, the predicted classes, int64 [l, B], and the true ones' log likelihoods [l, 1, B].

    Yields `sign` between two batches.
    """
    batches, first = torch.split(rows, max(task.config.batch_size, SMALLEST_BATCH)), 0
    inputs.expect(batches, None)
    for batch, some in enumerate(batches):
        if batch:
            yield sign
        labels, images = taken(task.labels, some), slice(first, first + len(some))
        first = images.stop
        for lanes, logits in heads.answer(inputs.batch(some, None).float()):  # [l, C, B]
            hear(lanes, images, logits.argmax(1), logits.log_softmax(1).gather(1, labels.expand(len(logits), 1, -1)))
