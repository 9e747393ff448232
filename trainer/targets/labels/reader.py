"""Reads sets of labels from tables, and makes strata of them. Imports no torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trainer.configuration import DataConfig, Part, counted, split_sizes
from trainer.data.examples import Example, UnfitData, enumerated, shown
from trainer.data.targets import Strata
from trainer.targets.labels.config import MAX_LABEL_NAME, MOST_LABELS, SeparatesLabels, joined, names_of, parted

NO_LABEL, OTHERS = "(no label)", "(rare labels)"
Parts = Counter[Part | None]


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Implements `trainer.data.targets.TargetReader`: a target is the sorted names of its labels."""

    def parse(self, text: str, data: DataConfig) -> str:
        """The set of names in a cell. Raises ValueError with the reason for a cell with an empty name."""
        if not isinstance(data, SeparatesLabels):
            raise TypeError(f"{type(data).__name__} has no separator of labels")
        return joined(names_of(text, data.label_separator))

    def value(self, target: str) -> tuple[str, ...]:
        """The names, sorted."""
        return parted(target)

    def names(self, targets: Iterable[str]) -> tuple[str, ...]:
        """The names of all labels, sorted."""
        return tuple(sorted({name for target in targets for name in parted(target)}))

    def refuse(self, data: DataConfig, examples: Sequence[Example], given: Sequence[Part]) -> None:
        """Raises UnfitData for fewer than two labels, too many, a name that is too long, and a label that the train part lacks."""
        names = self.names({example.label for example in examples})
        if len(names) < 2:
            found = f"one label only ({shown(names[0])})" if names else "no label"
            raise UnfitData(
                "one_label",
                f"{shown(data.path)} has {found}; a multi-label task needs two or more: correct the target column, or data.label_separator",
                unnamed="fewer than two labels were found; a multi-label task needs two or more: correct the target column, or "
                "data.label_separator",
            )
        if len(names) > MOST_LABELS:
            text = f"{len(names):,} different labels were found, and a study has {MOST_LABELS:,} at most; correct data.label_separator"
            raise UnfitData("too_many_labels", text)
        if long := [name for name in names if len(name) > MAX_LABEL_NAME]:
            text = f"{counted(len(long), 'label name has', 'label names have')} more than {MAX_LABEL_NAME} characters"
            raise UnfitData("long_label_names", f"{text}: {enumerated(long)}; shorten them", unnamed=f"{text}; shorten them")
        if "train" in given:
            trained = {name for example in examples if example.part == "train" for name in parted(example.label)}
            if lacking := [name for name in names if name not in trained]:
                start = (
                    f"{counted(len(lacking), 'label is', 'labels are')} in other parts of the data's own split and not in its train part"
                )
                remedy = "add examples to train, or remove the labels"
                raise UnfitData("label_missing_in_part", f"{start}: {enumerated(lacking)}; {remedy}", unnamed=f"{start}; {remedy}")

    def strata(self, counts: Mapping[str, Parts], data: DataConfig, given: Sequence[Part]) -> Strata:
        """The stratum of each target is its rarest label, given the number of examples by target and part.

        Strata that are too small to be divided by the shares of `data`, or that one of the given parts lacks, are merged into one. Where no
        part is drawn, all examples are one stratum.
        """
        totals = Counter[str]()
        for target, own in counts.items():
            totals.update({name: own.total() for name in parted(target)})
        rarest = {target: min(parted(target), key=lambda name: (totals[name], name), default=NO_LABEL) for target in counts}
        sizes = dict[str, Parts]()
        for target, own in counts.items():
            sizes[rarest[target]] = sizes.get(rarest[target], Parts()) + own
        shares = [share for part, share in (("validation", data.validation), ("test", data.test)) if share > 0 and part not in given]
        if not shares:
            return _strata(rarest, merged={*sizes})
        merged = {name for name, own in sizes.items() if _drawn(own, given) * min(shares) < 1 or any(not own[part] for part in given)}
        for name in sorted(sizes, key=lambda name: (sizes[name].total(), name)):  # until the merged ones can be divided themselves
            together = sum((sizes[one] for one in merged), Parts())
            if not merged or (split_sizes(_drawn(together, given), data, given)[0] >= 1 and all(together[part] for part in given)):
                break
            merged.add(name)
        return _strata(rarest, merged)


def _drawn(own: Parts, given: Sequence[Part]) -> int:
    """The number of examples from which parts are drawn."""
    return own["train"] if given else own[None]


def _strata(rarest: Mapping[str, str], merged: set[str]) -> Strata:
    names = sorted({*rarest.values()} - merged) + ([OTHERS] if merged else [])
    places = {name: place for place, name in enumerate(names)}
    of = {target: places[OTHERS if name in merged else name] for target, name in rarest.items()}
    return Strata(names=tuple(names), of=of, merged=len(merged) if len(names) > 1 else 0)
