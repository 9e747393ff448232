"""How single classes fared, over the runs of one configuration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, FiniteFloat

from trainer.configuration import Frozen

if TYPE_CHECKING:  # numpy takes long to import, and few readers of the models need it
    import numpy as np
    from numpy.typing import NDArray

MOST_CLASSES = 100  # whose confusion matrix is written out
MOST_MISTAKES = 20


class Mistake(Frozen):
    """Images of a class that were taken for another one."""

    actual: str
    predicted: str
    images: int


class ByClass(Frozen):
    """How single classes fared."""

    recall: Mapping[str, FiniteFloat] = Field(description="share of the class's images that were recognised, by class")
    confusion_matrix: tuple[tuple[int, ...], ...] | None = Field(
        description="rows are true classes, columns predicted ones, in the order of facts.classes; null above 100 classes"
    )
    mistakes: tuple[Mistake, ...] = Field(description="the most frequent ones, 20 at most")


class Summary(Frozen):
    """What an exported file says of the reports of runs."""

    by_class: ByClass | None = Field(default=None, description="summed over the runs")


def by_class(classes: Sequence[str], matrices: Sequence[Any]) -> ByClass | None:
    """The sum of confusion matrices [C, C] of runs; None where there are none of these classes, as an imported study's may be."""
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
