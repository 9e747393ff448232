"""The score of the best constant prediction: the largest class or, for the loss, the class frequencies."""

import math
from collections.abc import Mapping, Sequence

from trainer.configuration import Part
from trainer.tasks.base import ConstantScore, Metric
from trainer.tasks.image_classification.config import ImageDatasetInfo

MEANS_OVER_CLASSES = "recall (its mean over the classes is balanced accuracy) and f1 count every class alike"
REMEDIES = "class_weights: balanced and sampling: balanced train with every class counting alike"


def majority(info: ImageDatasetInfo, part: Part, name: str, metrics: Mapping[str, Metric]) -> ConstantScore | None:
    """None where the counts by class are not known, the part has no images, or the task has no such metric."""
    counts = info.class_counts.get(part, ()) if info.class_counts is not None else ()
    if not sum(counts) or name not in metrics:
        return None
    largest = max(range(len(counts)), key=lambda label: counts[label])  # of equal ones the first
    label, share = info.classes[largest], counts[largest] / sum(counts)
    value = _score(name, counts, share)
    answering = "Answering the shares of the classes" if name == "loss" else "Always answering it"
    advice = f"{MEANS_OVER_CLASSES}; {REMEDIES}" if name in ("accuracy", "loss") else REMEDIES
    return ConstantScore(
        label=label,
        share=share,
        value=value,
        sentence=f"The largest class, {label}, has {100 * share:.1f} % of the {part} images. "
        f"{answering} gives {name} {metrics[name].shown(value)}.",
        advice=f"{advice[:1].upper()}{advice[1:]}.",
    )


def _score(metric: str, counts: Sequence[int], share: float) -> float:
    """As `trainer.metrics` measures: macro means are over the classes that have images."""
    present = sum(count > 0 for count in counts)
    match metric:
        case "recall":
            return 1 / present
        case "precision":
            return share / present
        case "f1":
            return 2 * share / (1 + share) / present
        case "loss":
            return -sum(count / sum(counts) * math.log(count / sum(counts)) for count in counts if count)
        case _:
            return share
