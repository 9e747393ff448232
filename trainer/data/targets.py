"""How targets are read, checked and stratified that are not just one label: between listing and target. Imports no torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trainer.configuration import DataConfig, Part
from trainer.data.examples import Example


@dataclass(frozen=True, slots=True)
class Strata:
    """The strata of a split: the examples of each are divided by the shares of the parts."""

    names: tuple[str, ...]
    of: Mapping[str, int]  # target → index of its stratum
    merged: int = 0  # strata that were too small, and are one


LABELS_OF_EXAMPLE = "labels of an example"
"""The measure of sets of labels in `described`."""

TargetValue = str | float | tuple[str, ...]
"""A target: a label, a number, or the sorted labels of a set."""


@runtime_checkable
class HasTargets(Protocol):
    """Capability of a Dataset: the target of each content."""

    @property
    def targets(self) -> Sequence[TargetValue]:
        """By content."""
        ...


class TargetReader(Protocol):
    """Reads targets. `Example.label` and the labels of a listing are targets in the form that `parse` returns."""

    def __hash__(self) -> int: ...

    def parse(self, text: str, data: DataConfig) -> str:
        """The target that a cell of a table states, in its only form. Raises ValueError with the reason as a clause."""
        ...

    def value(self, target: str) -> TargetValue:
        """The target in that form as a value."""
        ...

    def names(self, targets: Iterable[str]) -> tuple[str, ...]:
        """The names of labels in the targets, sorted; empty for targets without names."""
        ...

    def refuse(self, data: DataConfig, examples: Sequence[Example], given: Sequence[Part]) -> None:
        """Raises UnfitData for targets that cannot be learned. `given` are the parts of the data's own split."""
        ...

    def strata(self, counts: Mapping[str, "Counter[Part | None]"], data: DataConfig, given: Sequence[Part]) -> Strata:
        """The stratum of each target, from the number of examples by target and part."""
        ...


def by_stratum(counts: Mapping[str, "Counter[Part | None]"], strata: Strata) -> dict[str, "Counter[Part | None]"]:
    """The number of examples by stratum and part, from that by target and part."""
    found = {name: Counter[Part | None]() for name in strata.names}
    for target, own in counts.items():
        found[strata.names[strata.of[target]]].update(own)
    return found


def described(
    reader: TargetReader | None, targets: Sequence[tuple[str, Part | None]]
) -> tuple[dict[str, "Counter[Part | None]"], dict[str, Sequence[float]]]:
    """For `thaw data inspect`, from the target and part of each example: the examples by label and part, and measures of the targets.

    Without a reader each target is a label.
    """
    values = {target: target if reader is None else reader.value(target) for target, _ in targets}
    labels = defaultdict[str, Counter[Part | None]](Counter)
    for target, part in targets:
        value = values[target]
        for name in value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ():
            labels[name][part] += 1
    measures = dict[str, Sequence[float]]()
    if numbers := [value for target, _ in targets if isinstance(value := values[target], float)]:
        measures["target"] = numbers
    if sizes := [len(value) for target, _ in targets if isinstance(value := values[target], tuple)]:
        measures[LABELS_OF_EXAMPLE] = sizes
    return dict(sorted(labels.items())), measures
