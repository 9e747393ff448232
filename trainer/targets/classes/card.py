"""Sections of the model card of a classifier."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, FiniteFloat

from trainer.configuration import Frozen
from trainer.targets.classes.config import ClassInfo
from trainer.tasks.capabilities import CardData, CardSection, CardTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_CLASSES = 100  # up to which the confusion matrix is included
MOST_MISTAKES = 20


class Mistake(Frozen):
    """Examples of one class that were predicted as another class."""

    actual: str
    predicted: str
    images: int = Field(description="the number of these examples, of any kind")


class ByClass(Frozen):
    """Results by class."""

    recall: Mapping[str, FiniteFloat] = Field(description="share of the class's examples that were recognised, by class")
    confusion_matrix: tuple[tuple[int, ...], ...] | None = Field(
        description="rows are true classes, columns predicted ones, in the order of facts.classes; null above 100 classes"
    )
    mistakes: tuple[Mistake, ...] = Field(description="the most frequent ones, 20 at most")


class ClassSummary(Frozen):
    """The summary of the runs' reports in an exported file."""

    by_class: ByClass | None = Field(default=None, description="summed over the runs")


def by_class(classes: Sequence[str], matrices: Sequence[Any]) -> ByClass | None:
    """Results by class, from the sum of the runs' confusion matrices [C, C]; None if no matrix has these classes."""
    import numpy as np

    fitting = [np.asarray(matrix, dtype=np.int64) for matrix in matrices if matrix and len(matrix) == len(classes)]
    if not fitting:
        return None
    total: NDArray[np.int64] = np.sum(fitting, axis=0)
    recall = total.diagonal() / np.maximum(total.sum(axis=1), 1)
    return ByClass(
        recall=dict(zip(classes, recall.tolist(), strict=True)),
        confusion_matrix=tuple(map(tuple, total.tolist())) if len(classes) <= MOST_CLASSES else None,
        mistakes=_mistakes(classes, total),
    )


def _mistakes(classes: Sequence[str], total: "NDArray[np.int64]") -> tuple[Mistake, ...]:
    import numpy as np

    wrong = total.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:MOST_MISTAKES]
    places = [divmod(int(place), len(classes)) for place in flat if wrong.flat[place] > 0]
    return tuple(Mistake(actual=classes[row], predicted=classes[column], images=int(wrong[row, column])) for row, column in places)


MOST_IN_A_MATRIX = 20  # classes
LONGEST_NAME = 200  # characters


def data_of(info: ClassInfo) -> CardData:
    """The card's contents about the classes, with their sizes."""
    names = ", ".join(map(_short, info.classes[:MOST_IN_A_MATRIX]))
    more = f" and {len(info.classes) - MOST_IN_A_MATRIX} more" if len(info.classes) > MOST_IN_A_MATRIX else ""
    return CardData(
        opening=f"classification, {len(info.classes)} classes: {names}{more}.",
        counts=tuple(_counts(info)),
        split="content within each class",
    )


def _short(name: str) -> str:
    return (name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…").strip()


def _counts(info: ClassInfo) -> Iterator[str | CardTable]:
    """Examples of each class by part; only the largest and smallest classes if there are more than MOST_IN_A_MATRIX."""
    if info.class_counts is None:
        return
    parts = [part for part in ("train", "validation", "test") if sum(info.class_counts.get(part, ()))]
    counted = [(name, [info.class_counts[part][label] for part in parts]) for label, name in enumerate(info.classes)]
    if len(counted) > MOST_IN_A_MATRIX:
        half = MOST_IN_A_MATRIX // 2
        counted.sort(key=lambda one: -sum(one[1]))
        counted = counted[:half] + counted[-half:]
        yield f"The {half} largest and the {half} smallest classes:"
    yield CardTable(("class", *parts), [(name, *counts) for name, counts in counted])


def results_of(classes: Sequence[str], fared: ByClass, where: str, example: str) -> CardSection:
    """The recall of each class, and the confusion matrix or the most frequent mistakes."""
    recall = CardTable(("class", "recall"), [(name, f"{100 * share:.1f} %") for name, share in fared.recall.items()])
    return CardSection("Class by class", (f"Recall {where}.", recall, *_confusion(classes, fared, example)))


def _confusion(classes: Sequence[str], fared: ByClass, example: str) -> Iterator[str | CardTable]:
    if fared.confusion_matrix is not None and len(classes) <= MOST_IN_A_MATRIX:
        yield "Confusion matrix of the same: a row a true class, a column a predicted one."
        yield CardTable(("", *classes), [(name, *row) for name, row in zip(classes, fared.confusion_matrix, strict=True)])
    elif fared.mistakes:
        yield "The most frequent mistakes of the same."
        yield CardTable(("true class", "taken for", f"{example}s"), [(one.actual, one.predicted, one.images) for one in fared.mistakes])
