"""Models of the target `labels`: hyperparameters of its loss, facts about the labels, and reports. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, FiniteFloat, model_validator
from pydantic_core import PydanticCustomError

from trainer.configuration import DatasetInfo, Frozen, Hyperparameters
from trainer.targets.encoding import bytes_of
from trainer.targets.examples import MOST_WORST, NamedExample

MAX_LABEL_NAME = 256  # characters
MOST_LABELS = 4_096
MOST_CELLS = 2_000_000  # test examples times labels up to which predictions are stored
SEPARATOR = "\x1f"  # between the sorted names in a target; no name has it


@runtime_checkable
class SeparatesLabels(Protocol):
    """Data whose cells have label names joined by a separator."""

    label_separator: str


class LabelHyperparameters(Hyperparameters):
    """Hyperparameters of the loss, the binary cross entropy."""

    pos_weight: Literal["none", "balanced"] = Field(
        default="none",
        description="balanced: an example that has a label counts in that label's loss as often as there are training examples without "
        "the label for each with it",
    )


class LabelInfo(DatasetInfo):
    """Facts about the labels."""

    labels: tuple[str, ...] = Field(description="label names, in the order of the model's outputs")
    label_counts: Mapping[str, tuple[int, ...]] = Field(
        description="number of examples with each label, in the order of `labels`, in train, validation and test"
    )
    without_labels: Mapping[str, int] = Field(default_factory=dict, description="number of examples with the empty set, by part")
    merged_strata: int = Field(
        default=0, ge=0, description="strata, each of examples with the same rarest label, that were too small and are split as one"
    )

    @property
    def in_words(self) -> str:
        """The amount of data and the number of labels as a phrase for logs."""
        return f"{super().in_words}, {len(self.labels)} labels"

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the input, and a sentence about strata that are split as one."""
        if not self.merged_strata:
            return super().notes
        strata = "rarest label of 1 stratum" if self.merged_strata == 1 else f"rarest labels of {self.merged_strata:,} strata"
        return (
            *super().notes,
            f"The split is stratified by the rarest label of each {self.example}; the {strata} are too rare, so these are split as one.",
        )

    @property
    def checked(self) -> Mapping[str, Any]:
        """The numbers of labels and of examples by part."""
        return {"labels": len(self.labels), **super().checked}

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Faults of imported facts: too few or too many labels, and names that are too long."""
        if not 2 <= len(self.labels) <= MOST_LABELS:
            yield "labels", "label_count", f"a study has 2 to {MOST_LABELS} labels; correct the list"
        if any(len(name) > MAX_LABEL_NAME for name in self.labels):
            yield "labels", "name_too_long", f"a label name has at most {MAX_LABEL_NAME} characters; shorten it"
        yield from super().faults()


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class LabelScores(Frozen):
    """The results for one label. The counts are those of the threshold."""

    examples: Count = Field(description="examples that have the label")
    predicted: Count = Field(description="examples for which it is predicted")
    hits: Count = Field(description="examples that have it and for which it is predicted")
    precision: Share
    recall: Share
    f1: Share
    auroc: Share | None = Field(default=None, description="None if every example has the label, or none has it")
    average_precision: Share | None = Field(default=None, description="None if no example has the label")


class WrongLabels(NamedExample):
    """An example whose labels were predicted wrongly."""

    missing: tuple[str, ...] = Field(default=(), description="labels that it has and that were not predicted")
    extra: tuple[str, ...] = Field(default=(), description="labels that were predicted and that it lacks")
    loss: FiniteFloat

    @property
    def answer(self) -> Mapping[str, str]:
        """The labels that differ."""
        return {"not predicted": ", ".join(self.missing), "wrongly predicted": ", ".join(self.extra)}


class LabelReport(Frozen):
    """The report of a run on the validation examples, beside its metrics."""

    threshold: Share = Field(description="a label is predicted from this probability on; chosen on the validation examples by the F1")
    per_label: Mapping[str, LabelScores] = Field(description="in the order of the labels")
    worst_labels: tuple[WrongLabels, ...] = Field(default=(), max_length=MOST_WORST, description="largest losses first")


class LabelTestReport(LabelReport):
    """The report on the test examples, with targets and predictions of each."""

    __test__ = False  # pytest would collect it by its name

    target_bits: str | None = Field(
        default=None,
        description="base64 of a bit for each example and label, example by example in the order of their contents, the first in the "
        f"highest bit of the first byte; None for more than {MOST_CELLS} examples times labels",
    )
    predicted_bits: str | None = Field(default=None, description="base64 of the predicted labels, likewise")
    logits: str | None = Field(default=None, description="base64 of the model's outputs as little-endian float16, in the same order")

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        cells = [None if text is None else len(bytes_of(text) or b"") for text in (self.target_bits, self.predicted_bits, self.logits)]
        if cells == [None, None, None]:
            return self
        bits, predicted, values = (size or 0 for size in cells)
        width = max(len(self.per_label), 1)
        if values % (2 * width) or not values or bits != predicted or bits != -(-values // 16):
            raise PydanticCustomError(
                "wrong_length", "target_bits, predicted_bits and logits must be base64 of as many values; correct them"
            )
        return self


def names_of(cell: str, separator: str) -> tuple[str, ...]:
    """The distinct label names in a cell of a table, sorted. Raises ValueError for an empty name between two separators."""
    if not cell.strip():
        return ()
    names = [name.strip() for name in cell.split(separator)]
    if not all(names):
        raise ValueError(f"has an empty label name beside {separator!r}")
    return tuple(sorted(set(names)))


def joined(names: Sequence[str]) -> str:
    """The target that is the set of the names, as one text."""
    return SEPARATOR.join(names)


def parted(target: str) -> tuple[str, ...]:
    """The names in a target."""
    return tuple(target.split(SEPARATOR)) if target else ()
