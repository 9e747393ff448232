"""What a model is measured by on images it was not trained on."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.task import Task, taken

if TYPE_CHECKING:
    from trainer.features import Inputs

SMALLEST_BATCH = 32
Sign = TypeVar("Sign")


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """Classification metrics."""

    scalars: Mapping[str, float]  # those of trainer.contract.METRICS
    confusion: Tensor  # int64 [C, C], on the host; rows are true classes, columns predicted ones

    @property
    def confusion_matrix(self) -> tuple[tuple[int, ...], ...]:
        """Rows are true classes, columns predicted ones."""
        return tuple(map(tuple, self.confusion.tolist()))

    @property
    def per_class_recall(self) -> tuple[float, ...]:
        """Of each class, over its own images; 0 for a class without any."""
        return tuple(_share(self.confusion.diagonal(), self.confusion.sum(1)).tolist())


def evaluate(task: Task, inputs: "Inputs", rows: Tensor, sign: Sign) -> Generator[Sign, None, Measurement]:
    """The model on the images of those rows, in evaluation mode; the loss is the plain cross entropy.

    Yields `sign` between two batches, so that whoever waits sees that it lives, and may stop it.
    """
    predicted, loss = list[Tensor](), torch.zeros((), dtype=torch.float64, device=task.labels.device)

    def hear(logits: Tensor, labels: Tensor) -> None:
        nonlocal loss
        loss += F.cross_entropy(logits, labels, reduction="sum").double()
        predicted.append(logits.argmax(1))

    yield from answer(task, inputs, rows, sign, hear)
    return measure(torch.cat(predicted), taken(task.labels, rows), float(loss) / len(rows), len(task.facts.classes))


@torch.no_grad()
def answer(task: Task, inputs: "Inputs", rows: Tensor, sign: Sign, hear: Callable[[Tensor, Tensor], None]) -> Generator[Sign, None, None]:
    """Tell the model's logits, float32 [B, C], and the true classes, int64 [B], batch by batch; yields `sign` between two."""
    task.model.eval()
    batches = torch.split(rows, max(task.config.batch_size, SMALLEST_BATCH))
    inputs.expect(batches, None)
    for batch, some in enumerate(batches):
        if batch:
            yield sign
        with task.autocast:
            logits = task.model.forward_from(inputs.batch(some, None), inputs.depth).float()
        hear(logits, taken(task.labels, some))


def measure(predicted: Tensor, actual: Tensor, loss: float, classes: int) -> Measurement:
    """The metrics of int64 class indices [N] against the true ones [N]; `loss` is the mean cross entropy that goes with them."""
    return measure_lanes(confusions(predicted[None], actual, classes), torch.tensor([loss], dtype=torch.float64))[0]


def confusions(predicted: Tensor, actual: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each: int64 [L, C, C] of predictions [L, N] against the true classes [N]."""
    lanes = torch.arange(len(predicted), device=predicted.device)[:, None]
    cells = (lanes * classes + actual) * classes + predicted  # [L, N]
    return cells.flatten().bincount(minlength=len(predicted) * classes * classes).view(-1, classes, classes)


def measure_lanes(confusions: Tensor, losses: Tensor) -> list[Measurement]:
    """The metrics of many models at once: confusion matrices int64 [L, C, C], rows true classes, and mean cross entropies [L].

    Macro means are over the classes that have images or predictions, as torchmetrics takes them.
    """
    confusions = confusions.cpu()
    hits = confusions.diagonal(dim1=1, dim2=2)  # [L, C]
    actual, predicted = confusions.sum(2), confusions.sum(1)
    present = actual + predicted > 0

    def macro(share: Tensor) -> Tensor:
        return (share * present).sum(1) / present.sum(1)

    columns = {
        "accuracy": _share(hits.sum(1), actual.sum(1)),
        "precision": macro(_share(hits, predicted)),
        "recall": macro(_share(hits, actual)),
        "f1": macro(_share(2 * hits, actual + predicted)),
        "loss": losses.double().cpu(),
    }
    rows = torch.stack([*columns.values()], 1).tolist()
    return [Measurement(dict(zip(columns, row, strict=True)), confusion) for row, confusion in zip(rows, confusions, strict=True)]


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """In float64; 0 where there is nothing to share."""
    return part.double() / whole.clamp(min=1)
