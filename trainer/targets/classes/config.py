"""Models of the target `classes`: hyperparameters of its loss, facts about the data, and reports. Imports no torch."""

import sys
from array import array
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from trainer.configuration import DatasetInfo, Frozen, Hyperparameters, Part, counted
from trainer.targets.encoding import bytes_of
from trainer.targets.examples import MOST_WORST, NamedExample

MAX_CLASS_NAME = 256  # characters
MOST_CLASSES = 65_536
MOST_CLASSES_RANKED = 64  # classes up to which tallies contain probabilities: with 77, an epoch of 128 heads took 40 % longer
MOST_RANKED = 2**17  # probabilities of one model's examples up to which AUROC and average precision are computed
ACCURACIES = frozenset({"accuracy", "micro_precision", "micro_recall", "micro_f1", "weighted_recall"})
"""Metrics that equal accuracy for examples of one class each."""


class ClassHyperparameters(Hyperparameters):
    """Hyperparameters of the loss."""

    label_smoothing: FiniteFloat = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        exclude_if=lambda weights: weights == "none",
        description="balanced: the training loss of an example has the weight n / (k * n_c): n training examples, k classes, n_c in its "
        "class",
    )
    sampling: Literal["none", "balanced"] = Field(
        default="none",
        exclude_if=lambda sampling: sampling == "none",
        description="balanced: an epoch draws as many examples as there are training examples, equally many of each class, with "
        "replacement",
    )
    focal_gamma: FiniteFloat = Field(
        default=0.0,
        ge=0,
        le=10,
        exclude_if=lambda gamma: gamma == 0,
        description="exponent of the focal loss, a factor (1 - p)^gamma of the cross entropy; p: the true class's probability; 0: off",
    )


class ClassInfo(DatasetInfo):
    """Facts about the classes."""

    classes: tuple[str, ...] = Field(description="label names, in the order of the model's outputs")
    class_counts: Mapping[str, tuple[int, ...]] | None = Field(
        default=None,
        exclude_if=lambda counts: counts is None,
        description="number of examples of each class, in the order of `classes`, in train, validation and test; None in version 0.1",
    )

    @property
    def in_words(self) -> str:
        """The amount of data and the number of classes as a phrase for logs."""
        return f"{super().in_words}, {len(self.classes)} classes"

    @property
    def identity_fields(self) -> frozenset[str]:
        """Those of every task, and the classes."""
        return super().identity_fields | {"classes"}

    @property
    def checked(self) -> Mapping[str, Any]:
        """The numbers of classes and of examples by part."""
        return {"classes": len(self.classes), **super().checked}

    def unrecorded(self, part: Part) -> Mapping[str, str]:
        """AUROC and average precision, if the part has too many probabilities to sort in each epoch."""
        classes, examples = len(self.classes), self.sizes.get(part, 0)
        if classes > MOST_CLASSES_RANKED:
            reason = f"is not recorded for {classes:,} classes, only up to {MOST_CLASSES_RANKED}"
        elif classes * examples > MOST_RANKED:
            amount = f"{classes} classes and {counted(examples, f'{part} {self.example}')}"
            reason = f"is not recorded for {amount}, only up to {MOST_RANKED:,} probabilities"
        else:
            return {}
        return dict.fromkeys(("auroc", "average_precision"), reason)

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Faults of imported facts: too few or too many classes, and class names that are too long."""
        if not 2 <= len(self.classes) <= MOST_CLASSES:
            yield "classes", "class_count", f"a study has 2 to {MOST_CLASSES} classes; correct the list"
        if any(len(name) > MAX_CLASS_NAME for name in self.classes):
            yield "classes", "name_too_long", f"a class name has at most {MAX_CLASS_NAME} characters; shorten it"
        yield from super().faults()


Count = Annotated[int, Field(ge=0, le=2**53)]


class WrongClass(NamedExample):
    """An example whose class was predicted wrongly."""

    target: str = Field(max_length=MAX_CLASS_NAME)
    predicted: str = Field(max_length=MAX_CLASS_NAME)
    target_probability: float = Field(ge=0, le=1, description="predicted for the true class")
    probability: float = Field(ge=0, le=1, description="of the predicted class")

    @property
    def answer(self) -> Mapping[str, str]:
        """The classes, each with its probability."""
        return {
            "true class": f"{self.target} ({100 * self.target_probability:.1f} %)",
            "predicted class": f"{self.predicted} ({100 * self.probability:.1f} %)",
        }


class ClassReport(Frozen):
    """The report of a run on the validation examples, beside its metrics."""

    per_class_recall: Mapping[str, Annotated[float, Field(ge=0, le=1)]]
    confusion_matrix: tuple[tuple[Count, ...], ...] = Field(
        max_length=MOST_CLASSES, description="rows are true classes, columns are predicted classes"
    )
    worst_classes: tuple[WrongClass, ...] = Field(
        default=(), max_length=MOST_WORST, description="wrong predictions, lowest probability of the true class first"
    )

    @field_validator("confusion_matrix")
    @classmethod
    def _matrix_is_square(cls, matrix: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if any(len(row) != len(matrix) for row in matrix):
            raise PydanticCustomError("not_square", "a confusion matrix has as many columns as rows; correct it")
        return matrix


class ClassTestReport(ClassReport):
    """The report on the test examples, with the prediction for each of them."""

    __test__ = False  # pytest would collect the class by its name

    predicted: str | None = Field(
        default=None,
        description="base64 of the predicted classes as little-endian uint16; examples are ordered by true class, then by content; "
        "None for more than MOST_SCORED examples",
    )
    losses: str | None = Field(
        default=None, description="base64 of the examples' cross entropy as little-endian float16, in the same order"
    )
    scores: Mapping[Literal["top_5_accuracy", "auroc", "average_precision", "ece"], str] | None = Field(
        default=None,
        description="base64 of each example's contribution to metrics that do not follow from the predicted classes, as little-endian "
        "float16 in the same order: 0 or 1, or the jackknife's pseudo-value; None in earlier versions",
    )

    @field_validator("confusion_matrix")
    @classmethod
    def _has_rows(cls, matrix: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        if not matrix:
            raise PydanticCustomError("empty", "scores on test examples need a row and a column for each class; add them, or remove test")
        return matrix

    @field_validator("predicted", "losses")
    @classmethod
    def _has_two_bytes_an_example(cls, text: str | None, known: ValidationInfo) -> str | None:
        matrix = known.data.get("confusion_matrix")
        if text is None or not matrix:
            return text
        examples, raw = sum(map(sum, matrix)), bytes_of(text)
        if raw is None or len(raw) != 2 * examples:
            raise PydanticCustomError(
                "wrong_length", f"this must be base64 of two bytes for each of the {examples} test examples; correct it"
            )
        if known.field_name == "predicted" and max(_uint16s(raw), default=0) >= len(matrix):
            raise PydanticCustomError("unknown_class", f"classes are numbered from 0 to {len(matrix) - 1}; correct it")
        return text

    @field_validator("scores")
    @classmethod
    def _have_two_bytes_an_example(cls, scores: Mapping[str, str] | None, known: ValidationInfo) -> Mapping[str, str] | None:
        if scores is not None and (matrix := known.data.get("confusion_matrix")):
            examples = sum(map(sum, matrix))
            for text in scores.values():
                if (raw := bytes_of(text)) is None or len(raw) != 2 * examples:
                    fault = f"these must be base64 of two bytes for each of the {examples} test examples; correct them"
                    raise PydanticCustomError("wrong_length", fault)
        return scores


def _uint16s(raw: bytes) -> "array[int]":
    """Decode little-endian uint16."""
    values = array("H", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return values


MOST_SCORED = 100_000  # most test examples whose predictions are stored
