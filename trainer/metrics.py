"""What a model is measured by on the validation images."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional import classification as tm

from trainer.task import Task, taken

if TYPE_CHECKING:
    from trainer.train import Inputs

SMALLEST_BATCH = 32
Sign = TypeVar("Sign")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Classification metrics. A class's recall is taken over its own images; rows of the confusion matrix are true classes."""

    scalars: Mapping[str, float]  # those of trainer.contract.METRICS
    per_class_recall: tuple[float, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]


@torch.no_grad()
def evaluate(task: Task, inputs: "Inputs", rows: Tensor, sign: Sign) -> Generator[Sign, None, Measurement]:
    """The model on the images of those rows, in evaluation mode; the loss is the plain cross entropy.

    Yields `sign` between two batches, so that whoever waits sees that it lives, and may stop it.
    """
    task.model.eval()
    predicted, loss = list[Tensor](), torch.zeros((), dtype=torch.float64, device=task.labels.device)
    for batch, some in enumerate(torch.split(rows, max(task.config.batch_size, SMALLEST_BATCH))):
        if batch:
            yield sign
        with task.autocast:
            logits = task.model.forward_from(inputs.batch(some, None), inputs.depth).float()  # [B, C]
        loss += F.cross_entropy(logits, taken(task.labels, some), reduction="sum").double()
        predicted.append(logits.argmax(1))
    return measure(torch.cat(predicted), taken(task.labels, rows), float(loss) / len(rows), len(task.facts.classes))


def measure(predicted: Tensor, actual: Tensor, loss: float, classes: int) -> Measurement:
    """The metrics of int64 class indices [N] against the true ones [N]; `loss` is the mean cross entropy that goes with them."""
    predicted, actual = predicted.cpu(), actual.cpu()

    def of(metric: str, average: str = "macro") -> Tensor:
        found: Tensor = getattr(tm, f"multiclass_{metric}")(predicted, actual, num_classes=classes, average=average, validate_args=False)
        return found

    confusion = tm.multiclass_confusion_matrix(predicted, actual, num_classes=classes, validate_args=False)
    return Measurement(
        scalars={
            "accuracy": float(of("accuracy", "micro")),
            "precision": float(of("precision")),
            "recall": float(of("recall")),
            "f1": float(of("f1_score")),
            "loss": loss,
        },
        per_class_recall=tuple(of("recall", "none").tolist()),
        confusion_matrix=tuple(map(tuple, confusion.tolist())),
    )
