"""What all lanes are measured by on the validation images, in one go."""

from collections.abc import Generator
from typing import TypeVar

import torch
from torch import Tensor

from trainer.features import Inputs
from trainer.lanes.head import Heads
from trainer.metrics import Measurement, confusions, measure_lanes
from trainer.task import Task, taken

SMALLEST_BATCH = 256  # images; they are few numbers each
Sign = TypeVar("Sign")


@torch.no_grad()
def measure_heads(task: Task, inputs: Inputs, heads: Heads, sign: Sign) -> Generator[Sign, None, list[Measurement]]:
    """As `trainer.metrics.evaluate`, for all lanes. Yields `sign` between two batches."""
    rows, classes = task.validation, len(task.facts.classes)
    predicted, losses = list[Tensor](), torch.zeros(heads.lanes, dtype=torch.float64, device=task.device)
    for batch, some in enumerate(torch.split(rows, max(task.config.batch_size, SMALLEST_BATCH))):
        if batch:
            yield sign
        labels, found = taken(task.labels, some), list[Tensor]()
        for lanes, logits in heads.answer(inputs.batch(some, None).float()):  # [l, C, B]
            true = labels.expand(len(logits), 1, -1)
            losses[lanes] -= logits.log_softmax(1).gather(1, true).sum((1, 2)).double()
            found.append(logits.argmax(1))
        predicted.append(torch.cat(found))
    matrices = confusions(torch.cat(predicted, 1), taken(task.labels, rows), classes)
    return measure_lanes(matrices, losses / len(rows))
